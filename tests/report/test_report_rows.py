"""The rows that the page of a report rests on, and which results it reads."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ovseg.catalog.catalog import build_catalog
from ovseg.config.scoring import BenchmarkConfig, CurveConfig
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.evaluation.metrics import Confusion
from ovseg.report import mined_rows as data
from ovseg.report import score_rows as results
from ovseg.report.stage import report_inputs
from ovseg.stages.run import run_stage
from ovseg.stages.schema import LEARNING_CURVE


def test_image_scores_are_those_of_the_confusion(report_run):
    found = report_run.ask(results.image_scores, "storybook")
    assert [row["miou"] for row in found] == sorted(row["miou"] for row in found)
    classes = load_benchmark("storybook", report_run.config.benchmark.root).classes
    for arm in ("original", "finetuned"):
        run = report_run.inputs[f"benchmark/storybook/{arm}"]
        cells = pa.concat_tables([pq.read_table(p / "confusion.parquet") for p in run.paths()])
        own = {row["image_id"]: row["miou"] for row in found if row["arm"] == arm}
        assert len(own) == 6
        for image_id, miou in own.items():
            one = Confusion(len(classes), ignore=-1)
            mine = cells.filter(pa.compute.field("image_id") == image_id)
            names = ("gt_class", "predicted_class", "pixels")
            one.add_counts(*(mine[name].to_numpy() for name in names))
            iou = one.class_counts().iou
            assert miou == pytest.approx(iou[iou == iou].mean())


def test_the_worst_masks_are_wrong_and_large_first(report_run):
    worst = report_run.ask(results.worst_masks, "storybook", "finetuned", 50)
    assert worst and all(row["class_name"] != row["named"] for row in worst)
    areas = [row["area_fraction"] for row in worst]
    assert areas == sorted(areas, reverse=True)
    mistakes = [(row["class_name"], row["named"]) for row in worst]
    assert max(mistakes.count(each) for each in mistakes) <= 2
    confused = report_run.ask(results.mask_confusions, "storybook")
    scores = report_run.inputs["scores/storybook/finetuned"].stats["scores"]
    run = report_run.inputs["benchmark/storybook/finetuned"]
    wrong = sum(row["masks"] for row in confused if row["arm"] == "finetuned")
    assert wrong == round(run.stats["masks"] * (1 - scores["mask_acc"]))


def test_inputs_are_found_in_the_catalogue(report_run):
    inputs = report_run.inputs
    build_catalog(report_run.root, inputs)
    checkpoints = {"finetuned": inputs["checkpoint/finetuned"]}
    scored = {
        f"storybook/{arm}": inputs[f"scores/storybook/{arm}"] for arm in ("original", "finetuned")
    }
    found = report_inputs(report_run.root, inputs, checkpoints, scored, inputs["truth"])
    assert {role: m.content_digest for role, m in found.items()} == {
        role: m.content_digest for role, m in inputs.items()
    }
    other = {"finetuned": inputs["table"]}  # another checkpoint than the curve ends at
    elsewhere = {"voc/finetuned": inputs["scores/storybook/finetuned"]}
    for given, of in ((other, scored), (checkpoints, elsewhere)):
        found = report_inputs(report_run.root, inputs, given, of, None)
        assert not [role for role in found if role.startswith("curve/")]
    bare = report_inputs(report_run.root, inputs, {}, {}, None)
    assert set(bare) == {"images", "nouns", "proposals", "table"}


@pytest.mark.parametrize(("limit", "cut"), [(2, "the first 2 of 6 images"), (6, ""), (None, "")])
def test_curves_of_fewer_images_than_the_benchmark_s(toy, report_run, tmp_path, limit, cut):
    curve = report_run.inputs["curve/storybook/finetuned"]
    config = CurveConfig(arm="finetuned", benchmark=BenchmarkConfig(), limit=limit)
    stage = toy.Rows(
        "curves", [pq.read_table(curve.payload()).to_pylist()], LEARNING_CURVE, curve.stats
    )
    parents = {"checkpoint": report_run.inputs["checkpoint/finetuned"]}
    limited = run_stage(stage, config, parents, tmp_path)
    with data.open_tables({**report_run.inputs, "curve/storybook/finetuned": limited}) as con:
        assert results.curves(con) and results.curve_cut(con, "storybook") == cut
