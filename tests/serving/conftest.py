"""A registered segmentor with random weights, loaded as MLflow serves it."""

import mlflow
import numpy as np
import pytest
from PIL import Image

from ovseg.config.scoring import BenchmarkConfig
from tasks.tracking.mlflow_run import tracking_uri
from tasks.tracking.tracked_run import track


@pytest.fixture(scope="module")
def logged(migrated_once, tiny_clip, tiny_maskformer, tmp_path_factory):
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
