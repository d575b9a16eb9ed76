"""The search for ensemble weight and mask threshold: what it measures, and on what it may."""

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from ovseg.config.scoring import BenchmarkConfig, TuneConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.tuning import TUNING, TUNING_COUNTS, check_training_side
from ovseg.models.segmentor import Segmentor
from ovseg.report.tuning import caveat, markdown, show_tuning, usage
from ovseg.stages.run import run_stage
from ovseg.stages.schema import TUNING as ROWS
from ovseg.storybook.world import write_world

WEIGHTS, THRESHOLDS = (0.0, 0.5, 1.0), (0.3, 0.5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A split of the mining part and one of the validation part."""
    home = tmp_path_factory.mktemp("worlds")
    for part in ("mining", "val"):
        write_world(home / part, part=part, n=3, size=96, seed=0)
    return home


@pytest.fixture(scope="module")
def config(folders):
    setting = BenchmarkConfig(
        root=folders / "mining",
        short_side=96,  # the shipped models, which see something, unlike random ones
        templates="single",
        seen=("house", "tree", "sky"),
        device="cpu",
    )
    return TuneConfig(benchmark=setting, weights=WEIGHTS, thresholds=THRESHOLDS)


def tune(config, root):
    counts = run_stage(TUNING_COUNTS, config, {}, root)
    return run_stage(TUNING, config, {"counts": counts}, root)


@pytest.fixture(scope="module")
def tuned(config, tmp_path_factory):
    return tune(config, tmp_path_factory.mktemp("tuned"))


def test_each_setting_scores_as_a_benchmark_under_it_does(config, tuned, tmp_path):
    table = pq.read_table(tuned.payload())
    assert table.schema.equals(ROWS, check_metadata=True)
    rows = {(row["mask_threshold"], row["ensemble_weight"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == len(WEIGHTS) * len(THRESHOLDS)
    for threshold, weight in ((0.3, 0.5), (0.5, 0.0), (0.5, 1.0)):
        changed = {"mask_threshold": threshold, "ensemble_weight": weight}
        setting = config.benchmark.model_copy(update=changed)
        scores = run_stage(BENCHMARK, setting, {}, tmp_path).stats["scores"]
        row = rows[threshold, weight]
        for metric in ("miou_union", "miou_gt", "pacc", "miou_union_seen", "miou_union_unseen"):
            assert row[metric] == scores[metric], metric
        assert row["value"] == scores["miou_union"]
    assert len({row["value"] for row in rows.values()}) > 3
    (best,) = [row for row in rows.values() if row["best"]]
    assert best["value"] == max(row["value"] for row in rows.values())
    assert best["split"] == "training" and best["images"] == 3


def test_a_weight_of_the_seen_classes_stays_while_the_other_is_searched(config, tmp_path):
    setting = config.benchmark.model_copy(
        update={"seen_weight": 0.2, "ensemble": "geometric", "mask_threshold": 0.5}
    )
    search = {"benchmark": setting, "weights": (0.9,), "thresholds": (0.5,)}
    (row,) = pq.read_table(tune(config.model_copy(update=search), tmp_path).payload()).to_pylist()
    found = {}
    for seen_weight in (0.2, None):
        changed = {"ensemble_weight": 0.9, "seen_weight": seen_weight}
        scored = run_stage(BENCHMARK, setting.model_copy(update=changed), {}, tmp_path)
        found[seen_weight] = scored.stats["scores"]["pacc"]
    assert row["pacc"] == found[0.2] != found[None]


def test_shards_change_nothing_and_proposals_are_made_once(config, tuned, tmp_path, monkeypatch):
    asked = {"propose": 0, "name_masks": 0}
    for name in asked:
        real = getattr(Segmentor, name)

        def counted(self, *args, _name=name, _real=real, **kwargs):
            asked[_name] += 1
            return _real(self, *args, **kwargs)

        monkeypatch.setattr(Segmentor, name, counted)
    setting = config.benchmark.model_copy(update={"min_shards": 3})
    again = tune(config.model_copy(update={"benchmark": setting}), tmp_path)
    assert again.digest != tuned.digest
    assert again.shards[0].sha256 == tuned.shards[0].sha256
    assert asked == {"propose": 3, "name_masks": 3 * len(THRESHOLDS)}


def test_it_says_on_what_it_was_searched_and_how_to_use_it(tuned, config, tmp_path):
    best = tuned.stats["best"]
    assert f"benchmarks.ensemble_weight={best['ensemble_weight']:g}" in usage(tuned)
    assert "training side" in caveat(tuned) and "on the test sets" in caveat(tuned)
    console = Console(width=200, record=True, file=io.StringIO())
    show_tuning(tuned, console)
    shown = console.export_text()
    assert f"[{100 * best['value']:.2f}]" in shown and usage(tuned) in shown
    assert markdown(tuned).count("[") == 1
    other = tune(config.model_copy(update={"split": "validation"}), tmp_path)
    assert "VALIDATION" in caveat(other)
    assert set(pq.read_table(other.payload())["split"].to_pylist()) == {"validation"}


def test_a_network_without_class_embeddings_has_no_weight(config, tmp_path):
    setting = config.benchmark.model_copy(update={"ensemble": "clip_only"})
    with pytest.raises(OvsegError, match="there is no ensemble weight to search"):
        run_stage(TUNING_COUNTS, config.model_copy(update={"benchmark": setting}), {}, tmp_path)


def test_a_split_without_labels_is_refused(config, tmp_path):
    folder = tmp_path / "mine"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("house\ntree")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "images" / "1.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(folder / "labels" / "1.png")
    setting = config.benchmark.model_copy(update={"benchmark": "mine", "root": folder})
    with pytest.raises(OvsegError, match=r"benchmark mine, .*no pixel of 1 label map counts"):
        tune(config.model_copy(update={"benchmark": setting}), tmp_path)


def test_validation_sets_are_refused(folders):
    scored = [BenchmarkConfig(root=folders / "val"), BenchmarkConfig(benchmark="voc-20")]
    check_training_side(folders / "mining", scored)
    with pytest.raises(OvsegError, match=r"storybook is scored on .*: .*--allow-validation"):
        check_training_side(folders / "val", scored)
    with tempfile.TemporaryDirectory() as home:
        named = Path(home) / "ade20k-150"
        named.mkdir()
        with pytest.raises(OvsegError, match="has the name of a benchmark"):
            check_training_side(named, [])
        copy = Path(home) / "train"
        shutil.copytree(folders / "mining", copy)
        one = sorted((folders / "val" / "images").iterdir())[0]
        shutil.copy(one, copy / "images" / "another_name.png")
        with pytest.raises(
            OvsegError, match=f"another_name.png is the validation image .*{one.name}"
        ):
            check_training_side(copy, scored)
