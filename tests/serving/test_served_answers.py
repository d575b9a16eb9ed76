"""The registered model: logged as code and safetensors, loaded back without a pickle, asked."""

import base64
import io

import mlflow
import numpy as np
import pytest
from asking import CLASSES, ask
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.models.clip import load as clip
from ovseg.models.maskformer import load as maskformer
from tasks.tracking.mlflow_run import tracking_uri


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
    assert {segment["class"] for segment in first["segments"]} <= {"moon"}
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


def test_the_models_are_loaded_before_anything_is_asked(logged, monkeypatch):
    monkeypatch.setattr(clip, "_SHARED", {})
    maskformer._load.cache_clear()
    mlflow.set_tracking_uri(tracking_uri(logged, None))
    mlflow.pyfunc.load_model("models:/ovseg-tiny@both")
    assert len(clip._SHARED) == maskformer._load.cache_info().currsize == 1


def test_a_single_class_is_answered_as_the_command_does(model, picture):
    (one,) = ask(model, (picture, "moon"))
    (two,) = ask(model, (picture, "moon, others"))
    moon = [segment for segment in two["segments"] if segment["class"] == "moon"]
    assert one["segments"] == moon
