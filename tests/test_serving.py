"""The registered model: logged as code and safetensors, loaded back without a pickle, asked."""

import base64
import io
import os
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server
from PIL import Image
from pycocotools import mask as coco_mask
from toy_networks import TINY

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import NounsConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError
from ovseg.mining.nouns.stage import NOUNS
from ovseg.models.build import load_segmentor
from ovseg.models.clip import load as clip
from ovseg.models.lseg.embedder import save_pixel_network
from ovseg.models.lseg.network import PixelEmbeddingNetwork
from ovseg.models.maskformer import load as maskformer
from ovseg.models.preprocessing import InputSettings
from ovseg.models.regions.memory import RegionMemory
from ovseg.models.served_requests import Limits
from ovseg.stages.run import run_stage
from tasks.tracking.mlflow_run import tracking_uri
from tasks.tracking.tracked_run import track

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
def model(logged, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.setenv("OVSEG_SERVE_IMAGES", str(tmp_path_factory.getbasetemp()))
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


@pytest.fixture(scope="module")
def server(logged, tmp_path_factory):
    """MLflow's own scoring server, with small limits, and the folder it may read images from."""
    folder = tmp_path_factory.mktemp("images")
    limits = {"IMAGES": folder, "ROWS": 3, "CLASSES": 4, "PIXELS": 1500, "IMAGE_BYTES": 6000}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setenv(f"OVSEG_SERVE_{name}", str(value))
        mlflow.set_tracking_uri(tracking_uri(logged, None))
        served = mlflow.pyfunc.load_model("models:/ovseg-tiny@both")
        patch.setattr(scoring_server, "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", NoLimit)
        yield TestClient(scoring_server.init(served), raise_server_exceptions=False), folder


class NoLimit:
    """Of the time a request may take: the tests have none of their own."""

    @staticmethod
    def get():
        """Seconds."""
        return 600


def base64_of(width, height, *, fmt="png"):
    image, content = np.zeros((height, width, 3), dtype=np.uint8), io.BytesIO()
    image[:, width // 2 :] = (250, 200, 40)
    Image.fromarray(image).save(content, format=fmt)
    return base64.b64encode(content.getvalue()).decode()


def post(server, *rows, **form):
    """Status and JSON of an answer; not one may tell of this machine."""
    client, _ = server
    form = form or {
        "json": {"dataframe_records": [{"image": image, "classes": c} for image, c in rows]}
    }
    answer = client.post("/invocations", **form)
    for hint in ("Traceback", "stack_trace", "site-packages", ".py", "/etc"):
        assert hint not in answer.text
    return answer.status_code, answer.json()


PICTURE = base64_of(40, 30)


def test_the_models_are_loaded_before_anything_is_asked(logged, monkeypatch):
    monkeypatch.setattr(clip, "_SHARED", {})
    maskformer._load.cache_clear()
    mlflow.set_tracking_uri(tracking_uri(logged, None))
    mlflow.pyfunc.load_model("models:/ovseg-tiny@both")
    assert len(clip._SHARED) == maskformer._load.cache_info().currsize == 1


def test_classes_are_a_text_or_a_list_and_one_has_a_rival(server):
    status, answer = post(
        server, (PICTURE, "sky, tree,sky"), (PICTURE, ["sky", " tree "]), (PICTURE, ["sky"])
    )
    assert status == 200
    text, names, one = answer["predictions"]
    assert text == names and names["segments"]
    assert {segment["class"] for segment in names["segments"]} <= {"sky", "tree"}
    single = [segment["class"] for segment in one["segments"]]
    assert single in ([], ["sky"])
    assert post(server, (PICTURE, "sky")) == (200, {"predictions": [one]})


def test_a_single_class_is_answered_as_the_command_does(model, picture):
    (one,) = ask(model, (picture, "moon"))
    (two,) = ask(model, (picture, "moon, others"))
    moon = [segment for segment in two["segments"] if segment["class"] == "moon"]
    assert one["segments"] == moon


def test_commas_belong_to_the_names_of_a_list(server):
    _, answer = post(server, (PICTURE, ["road, route", "sky"]))
    assert {each["class"] for each in answer["predictions"][0]["segments"]} <= {
        "road, route",
        "sky",
    }


@pytest.mark.parametrize(
    ("image", "classes", "reason"),
    [
        ("gone.png", "sky", "neither an image file's bytes in base64 nor a path"),
        ("/etc/hostname", "sky", "neither an image file's bytes in base64 nor a path"),
        ("../../etc/passwd", "sky", "neither an image file's bytes in base64 nor a path"),
        ("http://127.0.0.1/a.png", "sky", "neither an image file's bytes in base64 nor a path"),
        ("a\x00b", "sky", "neither an image file's bytes in base64 nor a path"),
        ("!" * 5000, "sky", "neither an image file's bytes in base64 nor a path"),
        ("", "sky", "the file is empty"),
        (base64.b64encode(b"text").decode(), "sky", "no known image format"),
        (base64_of(40, 30)[:60], "sky", "is not used"),
        (None, "sky", "not a text"),
        (7, "sky", "not a text"),
        (PICTURE, " , ", "no classes"),
        (PICTURE, [], "no classes"),
        (PICTURE, None, "neither a list of names"),
        (PICTURE, ["sky", 3], "neither a list of names"),
        (PICTURE, {"a": 1}, "neither a list of names"),
        (PICTURE, "sky" * 70, "a class name of 210 characters"),
        (PICTURE, [f"c{number}" for number in range(5)], "5 classes"),
        (base64_of(50, 40), "sky", "an image of more pixels"),
    ],
)
def test_a_bad_row_answers_alone(server, image, classes, reason):
    status, answer = post(server, (PICTURE, "boat, sky"), (image, classes), (PICTURE, "boat, sky"))
    assert status == 200
    first, bad, last = answer["predictions"]
    assert first == last and first["segments"] and first["error"] is None
    assert bad["size"] == [] and bad["segments"] == []
    assert reason in bad["error"] and "\n" not in bad["error"]


@pytest.mark.parametrize(
    ("rows", "status", "reason"),
    [
        ([("gone.png", "sky")], 400, "neither an image file's bytes"),
        ([("gone.png", "sky"), (PICTURE, "")], 400, "neither an image file's bytes"),
        ([(base64_of(50, 40), "sky")], 413, "this server takes 1500 at most (OVSEG_SERVE_PIXELS)"),
        ([(PICTURE, "sky")] * 4, 413, "this server takes 3 at most (OVSEG_SERVE_ROWS)"),
        ([(PICTURE, "a,b,c,d,e")], 413, "this server takes 4 at most (OVSEG_SERVE_CLASSES)"),
        ([(PICTURE, "a,b,c"), (PICTURE, "d,e,f")], 413, "6 different classes"),
        ([("A" * 4000, "sky"), ("A" * 4000, "sky")], 413, "(OVSEG_SERVE_IMAGE_BYTES)"),
    ],
)
def test_a_request_without_an_answer_has_the_fitting_status(server, rows, status, reason):
    found, answer = post(server, *rows)
    assert found == status and reason in answer["message"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{bad", "application/json"),
        ("[1]", "application/json"),
        ('{"dataframe_records": [{"image": "a"}]}', "application/json"),
        ('{"dataframe_split": {"columns": ["image"], "data": [[1, 2]]}}', "application/json"),
        ('"', "text/csv"),
        ("PAR1", "application/vnd.apache.parquet"),
    ],
)
def test_what_mlflow_cannot_read_is_refused_without_a_stack_trace(server, content, kind):
    status, _ = post(server, content=content, headers={"content-type": kind})
    assert status == 400


def test_a_table_of_comma_separated_values_is_answered(server):
    status, answer = post(
        server,
        content=f'image,classes\n{PICTURE},"boat, sky"\n',
        headers={"content-type": "text/csv"},
    )
    assert status == 200 and answer["predictions"][0]["error"] is None


def test_paths_count_below_the_folder_alone(server, picture, tmp_path_factory):
    _, folder = server
    (folder / "inside").mkdir(exist_ok=True)
    shutil.copyfile(picture, folder / "inside" / "picture.png")
    (folder / "link.png").symlink_to(folder / "inside" / "picture.png")
    (folder / "away.png").symlink_to(picture)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    sibling = folder.parent / f"{folder.name}-private"
    sibling.mkdir()
    shutil.copyfile(picture, sibling / "picture.png")
    _, answer = post(
        server,
        ("inside/picture.png", "boat, sky"),
        (str(folder / "inside/../link.png"), "boat, sky"),
        (PICTURE, "boat, sky"),
    )
    assert len({str(each) for each in answer["predictions"]}) == 1
    assert answer["predictions"][0]["error"] is None
    refused = [
        ("away.png", "missing.png", "loop.png"),
        ("pipe.png", "inside", str(picture)),
        (f"../{sibling.name}/picture.png", "inside/picture.png/x", "."),
        (str(sibling / "picture.png"), "~/x.png", "inside/../../x.png"),
    ]
    errors = set()
    for images in refused:  # beside a good row, so that each has an answer of its own
        for image in images:
            _, answer = post(server, (PICTURE, "boat, sky"), (image, "boat, sky"))
            errors.add(answer["predictions"][1]["error"])
    assert len(errors) == 1, "what is there and what is not have one answer"


def test_a_failure_of_the_server_stays_in_its_log(server, model, picture, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("/srv/secret/weights.bin is \x1b[31mdamaged")

    monkeypatch.setattr("ovseg.models.build.load_segmentor", fail)
    status, answer = post(server, (PICTURE, "boat, sky"))
    assert status == 500 and "log says why" in answer["message"] and "/srv" not in str(answer)
    assert "weights.bin" in caplog.text and "\x1b" not in caplog.text


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("OVSEG_SERVE_ROWS", "0", "a whole number from 1 on"),
        ("OVSEG_SERVE_PIXELS", "many", "a whole number from 1 on"),
        ("OVSEG_SERVE_CLASSES", "-3", "a whole number from 1 on"),
        ("OVSEG_SERVE_IMAGES", "/nowhere/at/all", "is not a folder"),
    ],
)
def test_a_limit_that_is_none_keeps_the_server_from_starting(variable, value, reason):
    with pytest.raises(OvsegError, match=reason) as error:
        Limits.of_environment({variable: value})
    assert variable in str(error.value)


def test_limits_of_the_environment_replace_the_defaults(tmp_path):
    assert Limits.of_environment({}) == Limits()
    environment = {"OVSEG_SERVE_ROWS": "7", "OVSEG_SERVE_IMAGES": str(tmp_path)}
    assert Limits.of_environment(environment) == Limits(rows=7, folder=tmp_path.resolve())


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
