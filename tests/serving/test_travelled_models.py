"""A registered model holds all its settings need, and answers where nothing else is left."""

import shutil

import mlflow
import numpy as np
import pytest
import torch
from asking import CLASSES, ask
from PIL import Image
from pycocotools import mask as coco_mask
from tiny import COARSE

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import NounsConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.listing import LIST_IMAGES
from ovseg.mining.nouns.stage import NOUNS
from ovseg.models.build import load_segmentor
from ovseg.models.lseg.embedder import save_pixel_network
from ovseg.models.lseg.network import PixelEmbeddingNetwork
from ovseg.models.preprocessing import InputSettings
from ovseg.models.regions.memory import RegionMemory
from ovseg.stages.run import run_stage
from tasks.tracking.tracked_run import track


def pixel_network(folder):
    """A network of pixel embeddings with random weights, for the tiny CLIP's texts."""
    save_pixel_network(
        PixelEmbeddingNetwork(COARSE),
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
    images = run_stage(LIST_IMAGES, config, {}, folder)
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVSEG_SERVE_IMAGES", str(home))
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
