"""The comparison over seeds: its rows, what is paired, its answers, its files, the command."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from toy_benchmarks import random_images, toy_benchmark

from ovseg.catalog.catalog import build_catalog
from ovseg.comparison.claims import judged_claims
from ovseg.comparison.findings import METRICS, Findings, metrics, read_findings
from ovseg.comparison.seed_runs import study_inputs
from ovseg.comparison.stage import STUDY, score_draws, study_rows
from ovseg.comparison.study_page import markdown, show_study
from ovseg.config.reporting import StudyConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.intervals import draw_images, read_images
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.schema import LEARNING_CURVE, rows_to_table
from ovseg.stages.schema import STUDY as ROWS
from ovseg.stages.stage import Output, Stage

ARMS = (("original", "original CLIP"), ("tuned", "fine-tuned"), ("both", "both in turn"))
SKILL = {"original": 0.3, "tuned": 0.7, "both": 0.75}
CONFIG = StudyConfig(benchmark="toy", arms=ARMS, resamples=60)


def benchmarks(root: Path, seeds=(0, 1, 2), *, images=12, shards=1, skill=SKILL) -> dict:
    return {
        f"{seed}/{arm}": toy_benchmark(
            root, random_images(np.random.default_rng([seed, index]), images, share), shards=shards
        )
        for seed in seeds
        for index, (arm, share) in enumerate(skill.items())
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return benchmarks(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def study(inputs, tmp_path_factory):
    return run_stage(STUDY, CONFIG, inputs, tmp_path_factory.mktemp("study"))


def rows_of(study, **wanted) -> list[dict]:
    rows = pq.read_table(study.payload() / "study.parquet").to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_every_arm_and_metric_with_each_seed_and_their_mean(study):
    table = pq.read_table(study.payload() / "study.parquet")
    assert table.schema == ROWS
    grain = [
        tuple(row[key] for key in ("seed", "arm", "baseline", "metric", "kind"))
        for row in table.to_pylist()
    ]
    assert len(set(grain)) == len(grain)
    for arm, _ in ARMS:
        for metric in METRICS:
            each = rows_of(study, arm=arm, metric=metric, baseline=None, kind="images")
            assert [row["seed"] for row in each] == ["0", "1", "2"]
            assert all(row["low"] <= row["high"] and row["improved"] is None for row in each)
            (mean,) = rows_of(study, arm=arm, metric=metric, baseline=None, kind="images+seeds")
            assert mean["value"] == pytest.approx(np.mean([row["value"] for row in each]))
            (seeds,) = rows_of(study, arm=arm, metric=metric, baseline=None, kind="seeds")
            assert seeds["seed"] == mean["seed"] == "all" and seeds["value"] == mean["value"]


def test_gains_are_paired(study):
    for baseline, arm in (("original", "tuned"), ("original", "both"), ("tuned", "both")):
        for seed in ("0", "1", "2", "all"):
            kind = "images" if seed != "all" else "images+seeds"
            chosen = {"seed": seed, "metric": "mask_acc", "kind": kind}
            (gain,) = rows_of(study, arm=arm, baseline=baseline, **chosen)
            (one,) = rows_of(study, arm=arm, baseline=None, **chosen)
            (other,) = rows_of(study, arm=baseline, baseline=None, **chosen)
            assert gain["value"] == pytest.approx(one["value"] - other["value"])
            assert 0 <= gain["improved"] <= 1
    assert not rows_of(study, arm="original", baseline="tuned")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_an_arm_does_not_differ_from_itself(seed, number):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = random_images(np.random.default_rng(seed), number, 0.5)
        images = read_images(toy_benchmark(Path(folder), made))
    scored = score_draws(images, draw_images(number, resamples=30, seed=seed))
    twins = StudyConfig(
        benchmark="toy", arms=(("original", "one"), ("both", "other")), resamples=30
    )
    by_seed = {"0": {"original": scored, "both": scored}}
    gains = [row for row in study_rows(by_seed, twins) if row["baseline"] is not None]
    assert gains
    for row in gains:
        assert row["value"] == row["low"] == row["high"] == 0 and row["improved"] == 0.5


def test_shards_and_runs_change_nothing(inputs, study, tmp_path):
    cut = benchmarks(tmp_path / "cut", shards=4)
    assert {m.digest for m in cut.values()}.isdisjoint(m.digest for m in inputs.values())
    again = run_stage(STUDY, CONFIG, cut, tmp_path / "study")
    assert again.digest != study.digest
    assert again.shards[0].sha256 == study.shards[0].sha256


def test_a_finished_study_is_found(inputs, study, monkeypatch):
    monkeypatch.setattr(type(STUDY), "write", lambda *_, **__: pytest.fail("computed again"))
    assert run_stage(STUDY, CONFIG, inputs, study.folder.parents[1]) == study


def test_seen_classes_and_draws_are_in_the_digest(inputs, study, tmp_path):
    seeds = [np.random.default_rng([0, 0]), np.random.default_rng([0, 0])]
    one, other = (
        toy_benchmark(tmp_path, random_images(rng, 12, 0.3), seen=seen)
        for rng, seen in zip(seeds, [("house", "tree"), ("sea",)])
    )
    assert one.content_digest == other.content_digest  # the rows do not say which are seen
    digests = {
        STUDY.digest(CONFIG, parents, STUDY.plan(CONFIG, parents))
        for parents in (inputs, {**inputs, "0/original": other})
    }
    assert len(digests) == 2 and study.digest in digests


def test_one_seed_has_intervals_over_images_alone(inputs, tmp_path):
    only = {role: m for role, m in inputs.items() if role.startswith("1/")}
    study = run_stage(STUDY, CONFIG, only, tmp_path)
    assert {row["kind"] for row in rows_of(study)} == {"images"}
    for row in rows_of(study, seed="all"):
        (same,) = rows_of(
            study, seed="1", arm=row["arm"], baseline=row["baseline"], metric=row["metric"]
        )
        assert (same["value"], same["low"]) == (row["value"], row["low"])
    assert "One seed." in (study.payload() / "study.md").read_text()


def test_a_missing_arm_and_other_images_are_one_line(inputs, tmp_path):
    rest = {role: m for role, m in inputs.items() if role != "2/both"}
    with pytest.raises(OvsegError, match=r"no benchmark of 2/both .* run `ovseg run"):
        run_stage(STUDY, CONFIG, rest, tmp_path)
    short = toy_benchmark(tmp_path, random_images(np.random.default_rng(0), 5, 0.5))
    with pytest.raises(OvsegError, match="seed 1: both was scored on different images"):
        run_stage(STUDY, CONFIG, {**inputs, "1/both": short}, tmp_path)


# --------------------------------------------------------------------------------------
# Claims


def findings(gains: dict, leads: dict) -> Findings:
    """Findings with given intervals of `tuned` - `original` and of `both` minus each other."""
    rows = []
    for metric in ("mask_acc_unseen", "miou_union_unseen"):
        for (arm, baseline), bounds in {
            **{(arm, "original"): b for arm, b in gains.items()},
            **{("both", arm): b for arm, b in leads.items()},
        }.items():
            value, low, high = bounds
            row = {"benchmark": "toy", "arm": arm, "baseline": baseline, "metric": metric}
            numbers = {"value": value, "low": low, "high": high, "improved": 0.5}
            rows.append({**row, "seed": "0", "kind": "images", **numbers})
            rows.append({**row, "seed": "all", "kind": "images", **numbers})
    return Findings(rows_to_table(rows, ROWS), CONFIG)


def verdicts(found: Findings) -> dict[str, str]:
    return {each.claim.text: each.verdict.words for each in judged_claims(found)}


def test_verdicts_follow_the_intervals():
    found = verdicts(
        findings(
            {"tuned": (0.1, 0.05, 0.2), "both": (-0.1, -0.2, -0.05)},
            {"original": (-0.1, -0.2, -0.05), "tuned": (-0.2, -0.3, -0.1)},
        )
    )
    assert found["GT masks unseen: fine-tuned above original CLIP"] == "holds"
    assert found["GT masks unseen: both in turn above original CLIP"] == "does not hold"
    assert found["mIoU unseen: both in turn above all others"] == "does not hold"
    found = verdicts(
        findings(
            {"tuned": (0.1, -0.01, 0.2), "both": (0.12, 0.01, 0.2)},
            {"original": (0.12, 0.01, 0.2), "tuned": (0.02, -0.1, 0.1)},
        )
    )
    assert found["GT masks unseen: fine-tuned above original CLIP"] == "undecided"
    best = "GT masks unseen: both in turn above all others"
    assert found[best] == "undecided", "the highest, but not told apart from fine-tuned"
    found = verdicts(
        findings(
            {"tuned": (0.1, 0.01, 0.2), "both": (0.08, 0.01, 0.2)},
            {"original": (0.08, 0.01, 0.2), "tuned": (-0.02, -0.1, 0.1)},
        )
    )
    assert found[best] == "undecided", "not the highest, but within the interval of the best"
    found = verdicts(
        findings(
            {"tuned": (0.1, 0.01, 0.2), "both": (0.3, 0.2, 0.4)},
            {"original": (0.3, 0.2, 0.4), "tuned": (0.2, 0.1, 0.3)},
        )
    )
    assert found[best] == "holds"


def test_a_benchmark_without_unseen_classes_is_asked_about_all(tmp_path):
    inputs = {
        f"0/{arm}": toy_benchmark(
            tmp_path, random_images(np.random.default_rng(index), 6, share), seen=()
        )
        for index, (arm, share) in enumerate(SKILL.items())
    }
    found = read_findings(run_stage(STUDY, CONFIG, inputs, tmp_path))
    assert found.main == ["mask_acc", "miou_union"]
    assert all("unseen" not in text for text in verdicts(found))
    assert "GT masks all: fine-tuned above original CLIP" in verdicts(found)


# --------------------------------------------------------------------------------------
# What a person sees


def test_the_page_holds_the_numbers(study):
    found = read_findings(study)
    page = (study.payload() / "study.md").read_text()
    plots = {"scores.png": "Scores of each model", "gains.png": "Paired gains"}
    assert page == markdown(found, judged_claims(found), images=12, plots=plots)
    tuned = found.score("tuned", "mask_acc_seen")
    row = next(line for line in page.splitlines() if line.startswith("| fine-tuned |"))
    low, high = 100 * tuned.low, 100 * tuned.high
    assert row.split(" | ")[1] == f"{100 * tuned.value:.1f} [{low:.1f}, {high:.1f}]"
    for picture in re.findall(r"\]\((\S+\.png)\)", page):
        with Image.open(study.payload() / picture) as image:
            assert image.width >= 800
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert "Means over 3 seeds" in page


def test_the_terminal_shows_it_in_80_columns(study, capsys):
    from rich.console import Console

    show_study(study, Console(width=80))
    shown = capsys.readouterr().out
    assert "paired differences to original CLIP" in shown
    assert "above all others: " in shown and str(study.payload()) in shown
    table = shown.split("Means over")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert any(line.startswith("original CLIP ") for line in table), "a title was broken"


def test_metrics_have_mean_and_bounds(study):
    logged = metrics(read_findings(study))
    (row,) = rows_of(study, arm="tuned", baseline=None, metric="miou_union", kind="images+seeds")
    assert logged["toy/tuned/miou_union/mean"] == row["value"]
    assert logged["toy/tuned/miou_union/low"] == row["low"]
    gains = {"toy/tuned-minus-original/miou_union/high", "toy/both-minus-tuned/miou_union/improved"}
    assert gains <= set(logged)
    assert all(re.fullmatch(r"[\w/.\- ]+", name) for name in logged)  # what MLflow accepts


class Curve(Stage[StudyConfig]):
    """A learning curve of two phases of `steps` each."""

    name = "curves"

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def plan(self, config, inputs):
        return ShardPlan.single(str(self.steps))

    def write(self, config, inputs, target, *, shard, progress):
        rows = [
            {
                "arm": "both",
                "phase": phase,
                "trains": "joint",
                "step": step,
                "total_step": (phase - 1) * self.steps + step,
                "part": part,
                "gt_mask_accuracy": 0.4 + 0.01 * phase + 0.001 * step,
                "gt_masks": 9,
                "benchmark": "toy",
            }
            for phase in (1, 2)
            for step in (0, self.steps // 2, self.steps)
            for part in ("seen", "unseen", "all")
        ]
        write_parquet(rows_to_table(rows, LEARNING_CURVE), target)
        return Output(rows=len(rows))


def test_learning_curves_are_averaged_by_their_order(inputs, tmp_path):
    from ovseg.comparison.plots import _by_order

    curves = {
        f"curve/{seed}/both": run_stage(Curve(steps), CONFIG, {}, tmp_path)
        for seed, steps in ((0, 10), (1, 12), (2, 14))
    }
    study = run_stage(STUDY, CONFIG, {**inputs, **curves}, tmp_path)
    table = pq.read_table(study.payload() / "curves.parquet")
    assert table["seed"].to_pylist()[0] == "0" and len(table) == 54
    steps, values = _by_order(table, "both", "unseen")
    assert steps.tolist() == [[0, 5, 10, 15, 20], [0, 6, 12, 18, 24], [0, 7, 14, 21, 28]]
    assert values[1].tolist() == pytest.approx([0.41, 0.416, 0.422, 0.426, 0.432])
    assert _by_order(table, "tuned", "seen")[0].size == 0
    with Image.open(study.payload() / "curves.png") as image:
        assert image.width >= 800
    assert "curves.png" in (study.payload() / "study.md").read_text()


def test_equal_studies_are_equal_to_the_byte(inputs, study, tmp_path):
    again = run_stage(STUDY, CONFIG, inputs, tmp_path)

    def files(manifest):
        paths = sorted(path for path in manifest.payload().iterdir())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    assert files(again) == files(study)


def test_the_table_is_empty_for_no_metric(tmp_path):
    empty = Findings(pa.Table.from_pylist([], schema=ROWS), CONFIG)
    assert empty.metrics == [] and judged_claims(empty) == []


def test_arms_of_one_system_are_compared(toy, tmp_path):
    for system, arm in (("ovseg", "original"), ("ovseg", "both"), ("zsseg", "original")):
        benchmark, scores = toy.publish_benchmark(tmp_path, arm, 0.0, system)
        build_catalog(tmp_path, {"benchmark": benchmark, "scores": scores})
    found = study_inputs({0: tmp_path}, "storybook")
    assert {role: run.config["system"] for role, run in found.items()} == {
        "0/original": "ovseg",
        "0/both": "ovseg",
    }
