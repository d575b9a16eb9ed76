"""A model as it was registered before modules moved: it loads, and answers as it did."""

import base64
import io
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from PIL import Image

from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import SHIPPED_CLIPS


def test_a_model_registered_before_the_rooms_still_answers(tmp_path):
    """`tests/registered` is one of then, whose CLIP, the one that ships, is put beside it here."""
    folder = tmp_path / "model"
    shutil.copytree(Path(__file__).parent / "registered", folder)
    shutil.copytree(SHIPPED_CLIPS["storybook"][0], folder / "artifacts" / "clip")
    stream = io.BytesIO()
    Image.fromarray(draw_scene(7).image).save(stream, "PNG")
    image = base64.b64encode(stream.getvalue()).decode()
    model = mlflow.pyfunc.load_model(str(folder))
    asked = {"image": [image], "classes": ["sky, tree, house, grass, moon"]}
    (answer,) = model.predict(pd.DataFrame(asked))
    found = {each["class"]: each["area_fraction"] for each in answer["segments"]}
    assert found == pytest.approx({"sky": 0.5516, "house": 0.2108, "moon": 0.2376}, abs=1e-3)
