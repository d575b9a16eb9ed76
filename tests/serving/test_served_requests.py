"""Requests to MLflow's scoring server: rows, paths, limits, and what a refusal says."""

import base64
import io
import os
import shutil

import mlflow
import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server
from PIL import Image

from ovseg.errors import OvsegError
from ovseg.models.served_requests import Limits
from tasks.tracking.mlflow_run import tracking_uri


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


def test_commas_belong_to_the_names_of_a_list(server):
    _, answer = post(server, (PICTURE, ["road, route", "sky"]))
    assert {each["class"] for each in answer["predictions"][0]["segments"]} <= {
        "road, route",
        "sky",
    }


@pytest.mark.parametrize(
    ("image", "classes", "reason"),
    [
        ("gone.png", "sky", "neither an image file's bytes in base64 nor the path"),
        ("/etc/hostname", "sky", "neither an image file's bytes in base64 nor the path"),
        ("../../etc/passwd", "sky", "neither an image file's bytes in base64 nor the path"),
        ("http://127.0.0.1/a.png", "sky", "neither an image file's bytes in base64 nor the path"),
        ("a\x00b", "sky", "neither an image file's bytes in base64 nor the path"),
        ("!" * 5000, "sky", "neither an image file's bytes in base64 nor the path"),
        ("", "sky", "the file is empty"),
        (base64.b64encode(b"text").decode(), "sky", "not in a known image format"),
        (base64_of(40, 30)[:60], "sky", "cannot be used"),
        (None, "sky", "not text"),
        (7, "sky", "not text"),
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
        (
            [(base64_of(50, 40), "sky")],
            413,
            "this server accepts at most 1500 (OVSEG_SERVE_PIXELS)",
        ),
        ([(PICTURE, "sky")] * 4, 413, "this server accepts at most 3 (OVSEG_SERVE_ROWS)"),
        ([(PICTURE, "a,b,c,d,e")], 413, "this server accepts at most 4 (OVSEG_SERVE_CLASSES)"),
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
        ("OVSEG_SERVE_ROWS", "0", "a positive whole number"),
        ("OVSEG_SERVE_PIXELS", "many", "a positive whole number"),
        ("OVSEG_SERVE_CLASSES", "-3", "a positive whole number"),
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
