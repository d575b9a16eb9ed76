"""The Python of docs/tracking.md runs as it stands there, on a registered model that is scored."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from ovseg.config.scoring import BenchmarkConfig
from tasks.tracking.tracked_run import track

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tracking.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def results(tiny_clip, tiny_maskformer, tmp_path, monkeypatch):
    """A working directory with `runs/storybook`, where one model is registered and scored."""
    monkeypatch.chdir(tmp_path)
    root, before = Path("runs/storybook"), mlflow.get_tracking_uri()
    settings = BenchmarkConfig(maskformer=str(tiny_maskformer), short_side=64, max_side=128)
    name = "ovseg-storybook"
    tags = {"stage": "score", "benchmark": "storybook", "arm": "both", "seed": "0"}
    with track("run", root=root) as run:
        run.model(name, clip=tiny_clip, settings=settings, arm="both")
        with track("benchmark/storybook/both", root=root, tags=tags) as child:
            child.scores(
                {"miou_union": 0.25},
                setting=settings,
                headline=["miou_union"],
                name=name,
                clip=tiny_clip,
            )
    assert not (root / "tracking-problems.txt").exists()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "photo.png")
    yield root
    mlflow.set_tracking_uri(before)


def test_comparing_promoting_and_loading_work_as_the_page_says(results, capsys):
    assert len(BLOCKS) == 3
    printed = []
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), {})
        printed.append(capsys.readouterr().out.strip())
    assert printed[0] == "0 both 0.25"
    assert printed[1] == "1 0.250000"
    assert printed[2].startswith("[30, 40] [")
