"""Image files: whatever the bytes are, they are RGB pixels or an error with a known reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from ovseg.data import images
from ovseg.data.images import ImageError
from ovseg.data.perceptual_hash import phash
from tests.fuzz.harness import fuzzed, mutated

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
COLOURS = Image.fromarray(PIXELS)
GREY = PIXELS[..., 0]
CLEAR = Image.fromarray(np.dstack([PIXELS, GREY]))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[274] = orientation
    return made


VALID = [
    *(saved(COLOURS, kind) for kind in ("PNG", "BMP", "GIF", "TIFF", "PPM", "TGA", "ICO", "WEBP")),
    saved(COLOURS, "JPEG", quality=60, exif=exif(6)),
    saved(COLOURS, "JPEG", progressive=True),
    saved(COLOURS.convert("CMYK"), "JPEG"),
    saved(COLOURS, "JPEG2000"),
    saved(COLOURS, "AVIF"),
    saved(CLEAR, "PNG", exif=exif(3)),
    saved(CLEAR, "WEBP", lossless=True),
    saved(COLOURS.quantize(7), "PNG", transparency=2),
    saved(COLOURS.quantize(7), "PNG", transparency=bytes(range(7))),
    saved(CLEAR.convert("LA"), "PNG"),
    saved(Image.fromarray(GREY > 90), "PNG"),
    saved(Image.fromarray(GREY.astype(np.uint16) * 200), "PNG"),
    saved(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"),
    saved(Image.fromarray(GREY.astype(np.int16)), "TIFF"),
    saved(Image.fromarray(GREY.astype(np.int32)), "TIFF", compression="tiff_lzw"),
    saved(COLOURS.convert("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
    saved(COLOURS, "TIFF", compression="jpeg"),
    saved(COLOURS.quantize(5), "TIFF", compression="packbits"),
    saved(Image.fromarray(GREY > 90), "TIFF", compression="group4"),
    saved(COLOURS, "PNG", save_all=True, append_images=[COLOURS.rotate(90)]),
    saved(COLOURS, "EPS"),
    saved(COLOURS, "PDF"),
]
MOST = 2**22


@fuzzed(mutated(VALID) | st.binary(max_size=60), raises=(ImageError,), mebibytes=768)
def test_image_files(case: bytes, folder: Path) -> None:
    """RGB of bounded size, writable, or one of the documented reasons."""
    path = folder / "image"
    path.write_bytes(case)
    for read in (
        lambda: images.read_image(path, max_pixels=MOST),
        lambda: images.upright_size(path),
    ):
        try:
            found = read()
        except ImageError as error:
            assert error.reason in images.REASONS
            continue
        if isinstance(found, np.ndarray):
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
            assert found.flags.writeable and found.shape[0] * found.shape[1] <= MOST
            assert images.upright_size(path) == found.shape[:2]
            assert 0 <= phash(found) < 2**64


@st.composite
def grey_values(draw: st.DrawFn) -> np.ndarray:
    """Grey pixels of any depth, a few of them odd."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.float32]))
    base = draw(st.sampled_from([0, 1, 255, 4095, 65535]))
    values = (np.linspace(0, 1, 12) * base).astype(dtype).reshape(3, 4)
    odd = [0, 1, -1, 15.5, 16, 256, 4096, 65536, 2**31 - 1, 1e30, np.nan, np.inf, -np.inf]
    for _ in range(draw(st.integers(0, 2))):
        value = draw(st.sampled_from(odd))
        if np.issubdtype(dtype, np.floating) or np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            values[draw(st.integers(0, 2)), draw(st.integers(0, 3))] = value
    return values


@fuzzed(grey_values(), raises=(ImageError,))
def test_grey_of_any_depth(case: np.ndarray, folder: Path) -> None:
    """Brightness keeps its order, and what is not a brightness is refused."""
    try:
        rgb = images.decode(saved(Image.fromarray(case), "TIFF"))
    except ImageError as error:
        assert error.reason == "unknown_values"
        odd = not np.isfinite(case).all() or case.min() < 0 or case.max() > 65535
        assert odd or (case.dtype.kind == "f" and 1 < case.max() < 16)
        return
    order = np.argsort(case, axis=None, kind="stable")
    assert (np.diff(rgb[..., 0].ravel()[order].astype(int)) >= 0).all()
    assert np.isfinite(case).all() and case.min() >= 0
