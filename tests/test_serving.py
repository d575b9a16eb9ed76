"""The registered model: logged as code and safetensors, loaded back without a pickle, asked."""

import base64
import io
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from toy_networks import TINY

from ovseg.benchmark_config import BenchmarkConfig
from ovseg.config import ImagesConfig, NounsConfig
from ovseg.data.image_stage import IMAGES
from ovseg.errors import OvsegError
from ovseg.mining.noun_stage import NOUNS
from ovseg.models.pixel_embedder import save_pixel_network
from ovseg.models.pixel_embedding import PixelEmbeddingNetwork
from ovseg.models.pixels import InputSettings
from ovseg.models.retrieval import RegionMemory
from ovseg.models.systems import load_segmentor
from ovseg.stages import run_stage
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


# --------------------------------------------------------------------------------------
# What a setting needs


def pixel_network(folder):
    """A network of pixel embeddings with random weights, for the tiny CLIP's texts."""
    save_pixel_network(
        PixelEmbeddingNetwork(TINY),
        folder,
        inputs=InputSettings(short_side=48, max_side=96),
        class_names=["house"],
        text_embeddings=torch.zeros(1, 16),
    )
    return folder


def noun_table(folder):
    """The folder of a nouns stage, of captions whose images nobody has."""
    folder.mkdir()
    captions = folder / "captions.tsv"
    captions.write_text("image\tcaption\n0.png\ta red house on the hill\n1.png\ta pale moon\n")
    config = ImagesConfig(captions=captions, image_root=folder, max_bad_fraction=1.0)
    images = run_stage(IMAGES, config, {}, folder)
    return run_stage(NOUNS, NounsConfig(), {"images": images}, folder).folder


def regions_of(folder):
    """A memory of mined regions as wide as the tiny CLIP."""
    rows = torch.nn.functional.normalize(torch.randn(9, 16), dim=-1)
    memory = RegionMemory(
        regions_ne=rows, nouns_n=torch.arange(9) % 3, nouns=("boat", "house", "moon")
    )
    memory.save(folder)
    return folder


def pieces(answer):
    """Labels (H, W) int of an answer, in the order of `CLASSES`; -1 for none."""
    labels = np.full(answer["size"], -1)
    for segment in answer["segments"]:
        rle = {"size": answer["size"], "counts": segment["counts"].encode("ascii")}
        labels[coco_mask.decode(rle) == 1] = CLASSES.split(", ").index(segment["class"])
    return labels


@pytest.fixture(scope="module")
def travelled(tiny_clip, tiny_maskformer, tmp_path_factory):
    """Of each of two systems the loaded model and its labels before all it was made of was gone."""
    before, home = mlflow.get_tracking_uri(), tmp_path_factory.mktemp("travelled")
    made = home / "made"
    clip = shutil.copytree(tiny_clip, made / "clip")
    maskformer = shutil.copytree(tiny_maskformer, made / "maskformer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pixels, regions = pixel_network(made / "lseg"), regions_of(made / "regions")
    common = BenchmarkConfig(
        short_side=64,
        max_side=128,
        prompting="mined",
        contexts_from=noun_table(made / "mined"),
        pixels=str(pixels),
        root=made / "benchmark",
        device="cpu",
    )
    proposals = {
        "maskformer": str(maskformer),
        "embedder": "pixel_pooling",
        "ensemble": "geometric",
        "ensemble_weight": 0.4,
        "retrieval_weight": 0.5,
        "seen_split": str(made / "split.tsv"),
        "oracle": "gt_masks",
    }
    settings = {
        "proposals": common.model_copy(update=proposals),
        "pixels": common.model_copy(update={"segmentor": "pixels"}),
    }
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    image[:, 20:] = (250, 200, 40)
    Image.fromarray(image).save(home / "picture.png")
    names = CLASSES.split(", ")
    expected = {}
    with track("run", root=home / "runs") as run:
        for arm, config in settings.items():
            kept = regions if config.retrieval_weight else None
            run.model("ovseg-tiny", clip=clip, settings=config, arm=arm, regions=kept)
            segmentor = load_segmentor(config, names, clip=str(clip), regions=kept)
            expected[arm] = segmentor.segment(image).labels
    assert len(run.registered) == 2 and run.problems == []
    shutil.rmtree(made)
    mlflow.set_tracking_uri(run.uri)
    uris = {arm: model.uri for arm, model in run.registered.items()}
    models = {arm: mlflow.pyfunc.load_model(uri) for arm, uri in uris.items()}
    yield home, models, expected
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("arm", ["proposals", "pixels"])
def test_a_model_holds_what_its_settings_need(travelled, arm):
    home, models, expected = travelled
    (answer,) = ask(models[arm], (home / "picture.png", CLASSES))
    found = pieces(answer)
    assert (found == expected[arm]).all()
    assert len(np.unique(found)) > 1


def test_a_model_knows_nothing_of_the_machine_it_was_made_on(travelled):
    home, _, _ = travelled
    written = list((home / "runs" / "mlartifacts").rglob("settings.json"))
    assert len(written) == 2
    for path in written:
        text = path.read_text()
        assert str(home) not in text and "oracle" not in text and "seen_split" not in text
    kept = {path.name for path in (home / "runs" / "mlartifacts").rglob("*") if path.is_file()}
    assert "contexts.json" in kept and not [name for name in kept if name.endswith(".parquet")]
