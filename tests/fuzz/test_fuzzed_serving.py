"""What anyone may send to a served model, and others' texts on their way to terminal and log."""

import base64
import io
import unicodedata

import numpy as np
from harness import fuzzed, mutated
from hypothesis import strategies as st
from PIL import Image

from ovseg.data.images import ImageArray  # noqa: F401  # loads decoders before the case is timed
from ovseg.files.escaping import STEERS, code, escaped, terminal_line, terminal_text
from ovseg.files.urls import redacted, without_secrets
from ovseg.models.served_requests import Limits, Question, RequestError


def _image(fmt):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(content, format=fmt)
    return content.getvalue()


IMAGES = [_image(fmt) for fmt in ("png", "jpeg", "webp", "bmp", "gif", "tiff")]
PATHS = st.lists(
    st.sampled_from(
        ["..", ".", "/", "inside.png", "away.png", "~", "etc", "passwd", "\x00", "a" * 300]
    )
    | st.text(max_size=6),
    max_size=6,
).map("/".join)
TEXTS = st.text(max_size=60) | PATHS
VALUES = TEXTS | st.none() | st.integers() | st.floats() | st.lists(TEXTS, max_size=9)
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "image": mutated(IMAGES).map(lambda data: base64.b64encode(data).decode()) | VALUES,
            "classes": VALUES | st.lists(TEXTS | st.integers(), max_size=9),
        },
    ),
    max_size=9,
)


@fuzzed(ROWS, raises=(RequestError,), mebibytes=256)
def test_a_request(rows, folder):
    served = folder / "served"
    served.mkdir()
    (served / "inside.png").write_bytes(IMAGES[0])
    (folder / "secret.png").write_bytes(_image("png"))
    (served / "away.png").symlink_to(folder / "secret.png")
    limits = Limits(rows=8, image_bytes=4000, classes=6, pixels=500, folder=served.resolve())
    for question in limits.questions(rows):
        if isinstance(question, Question):
            assert 1 <= len(question.classes) <= 6 and len(question.names) >= 2
            try:
                image = limits.image(question.image)
            except RequestError as error:
                assert "\n" not in str(error) and str(folder) not in str(error)
            else:
                assert image.dtype == np.uint8 and image.shape[0] * image.shape[1] <= 500


URLS = [
    b"http://me:pass@host:5000/x?token=abc#key=d",
    b"no answer from postgresql+psycopg2://me:p%40ss@host/db, http://127.0.0.1:4200/api",
    b'{"a": "s3://bucket/x@2.png", "b": "https:\\/\\/u:p@h"}',
    "\x1b[31mred \u202e|<img src=x>`_*[x](http://y)".encode(),
]


@fuzzed(
    st.text(max_size=300) | mutated(URLS).map(lambda data: data.decode(errors="replace")), raises=()
)
def test_a_text(text, folder):
    shown = terminal_line(without_secrets(text))
    assert not [
        c for c in terminal_text(text) if c not in "\n\t" and unicodedata.category(c) in STEERS
    ]
    assert len(shown.splitlines()) <= 1 and terminal_line(shown) == shown
    for value in (without_secrets(text), redacted(text)):
        assert without_secrets(value) == without_secrets(without_secrets(value))
    assert "\n" not in escaped(text) + code(text)
