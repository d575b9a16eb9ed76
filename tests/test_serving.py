"""The registered model: logged as code and safetensors, loaded back without a pickle, asked."""

import base64
import io

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.benchmark_config import BenchmarkConfig
from ovseg.errors import OvsegError
from tasks.tracking import track, tracking_uri

CLASSES = "house, tree, moon"


@pytest.fixture(scope="module")
def logged(tiny_clip, tiny_maskformer, tmp_path_factory):
    """The root of a run that registered the tiny segmentor."""
    before, root = mlflow.get_tracking_uri(), tmp_path_factory.mktemp("served")
    settings = BenchmarkConfig(maskformer=str(tiny_maskformer), short_side=64, max_side=128)
    with track("run", root=root) as run:
        run.model("ovseg-tiny", clip=tiny_clip, settings=settings, arm="both")
    assert not (root / "tracking-problems.txt").exists()
    yield root
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def model(logged):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        mlflow.set_tracking_uri(tracking_uri(logged, None))
        yield mlflow.pyfunc.load_model("models:/ovseg-tiny@both")


@pytest.fixture
def picture(tmp_path):
    """A file of 40 x 30 pixels, half dark and half light."""
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = (250, 200, 40)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def ask(model, *rows):
    return model.predict(pd.DataFrame([{"image": str(i), "classes": c} for i, c in rows]))


def test_nothing_is_pickled(logged):
    names = {path.name for path in (logged / "mlartifacts").rglob("*") if path.is_file()}
    assert {"serving.py", "model.safetensors", "settings.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]


def test_an_answer_covers_the_image_with_masks_that_decode(model, picture):
    (answer,) = ask(model, (picture, CLASSES))
    assert list(answer["size"]) == [30, 40]
    assert answer["segments"]
    covered = np.zeros((30, 40), dtype=int)
    for segment in answer["segments"]:
        assert segment["class"] in ("house", "tree", "moon")
        rle = {"size": answer["size"], "counts": segment["counts"].encode("ascii")}
        mask = coco_mask.decode(rle)
        assert mask.mean() == pytest.approx(segment["area_fraction"])
        covered += mask
    assert covered.max() == 1
    assert sum(segment["area_fraction"] for segment in answer["segments"]) <= 1 + 1e-9


def test_each_row_brings_its_own_classes(model, picture):
    first, second = ask(model, (picture, "moon"), (picture, CLASSES))
    assert [segment["class"] for segment in first["segments"]] == ["moon"]
    assert ask(model, (picture, CLASSES)) == [second]


def test_bytes_in_base64_are_the_same_image(model, picture):
    text = base64.b64encode(picture.read_bytes()).decode()
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(
        noise, format="png"
    )
    longer = base64.b64encode(noise.getvalue()).decode()
    assert 300 < len(longer) < 4096  # too long for a file's name, short enough to be asked for
    lines = "\n".join(text[start : start + 60] for start in range(0, len(text), 60))
    by_path, by_text, by_lines, noisy = ask(
        model, (picture, CLASSES), (text, CLASSES), (lines, CLASSES), (longer, CLASSES)
    )
    assert by_path == by_text == by_lines
    assert list(noisy["size"]) == [20, 20]


@pytest.mark.parametrize("image", ["gone.png", "!!!", "", base64.b64encode(b"text").decode()])
def test_what_is_no_image_is_said_on_one_line(model, image):
    with pytest.raises(OvsegError, match="neither an image file's path nor") as error:
        ask(model, (image, CLASSES))
    assert "\n" not in str(error.value)


def test_no_classes(model, picture):
    with pytest.raises(OvsegError, match="no classes"):
        ask(model, (picture, " , "))
