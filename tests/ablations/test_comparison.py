"""An ablation: whose seeds are compared, verdicts on made-up intervals, its files, its page."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toy_benchmarks import random_images, toy_benchmark

from ovseg.ablations.cells import Cell, Published, Table, above
from ovseg.ablations.page import Compared, Failed, Page, publish_page
from ovseg.ablations.plan import Plan, PlannedTable
from ovseg.comparison.claims import (
    JudgedClaim,
    Verdict,
    in_words,
    judge,
    judged_claims,
    verdict_on,
)
from ovseg.comparison.findings import Estimate, read_findings
from ovseg.comparison.stage import STUDY
from ovseg.config.reporting import Claim, StudyConfig
from ovseg.errors import OvsegError
from ovseg.stages.run import run_stage
from ovseg.stages.schema import CLAIMS
from ovseg.stages.schema import STUDY as ROWS

CELLS = {"weak": 0.2, "middle": 0.5, "strong": 0.9}
BETTER = Claim(name="better", text="Strong beats weak", ways=(above("strong", "weak"),))
WORSE = Claim(name="worse", text="Weak beats strong", ways=(above("weak", "strong"),))
CONFIG = StudyConfig(
    table="toy",
    benchmark="toy",
    arms=tuple((name, f"the {name} one") for name in CELLS),
    baseline="middle",
    favorite="",
    claims=(BETTER, WORSE),
    resamples=60,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Three seeds of two cells, one of the third."""
    root = tmp_path_factory.mktemp("toys")
    return {
        f"{seed}/{name}": toy_benchmark(
            root, random_images(np.random.default_rng([seed, place]), 30, skill)
        )
        for seed in (0, 1, 2)
        for place, (name, skill) in enumerate(CELLS.items())
        if name != "middle" or seed == 0
    }


@pytest.fixture(scope="module")
def ablation(inputs, tmp_path_factory):
    return run_stage(STUDY, CONFIG, inputs, tmp_path_factory.mktemp("ablation"))


# --------------------------------------------------------------------------------------
# Verdicts


def interval(low, high, student=None):
    return Estimate((low + high) / 2, low, high, 0.5, student)


ABOVE, BELOW, ACROSS = (0.01, 0.03), (-0.03, -0.01), (-0.02, 0.02)


@pytest.mark.parametrize(
    ("draws", "seeds", "expected"),
    [
        (ABOVE, None, Verdict.HOLDS),
        (BELOW, None, Verdict.DOES_NOT_HOLD),
        (ACROSS, None, Verdict.UNDECIDED),
        (ABOVE, ABOVE, Verdict.HOLDS),
        (BELOW, BELOW, Verdict.DOES_NOT_HOLD),
        *((a, b, Verdict.UNDECIDED) for a, b in itertools.permutations((ABOVE, BELOW, ACROSS), 2)),
        (ACROSS, ACROSS, Verdict.UNDECIDED),
        ((0.0, 0.02), None, Verdict.UNDECIDED),  # a bound at 0 is not above it
        ((-0.02, 0.0), None, Verdict.UNDECIDED),
        ((0.0, 0.0), None, Verdict.UNDECIDED),
        ((math.nan, math.nan), None, Verdict.UNDECIDED),
        (ABOVE, (math.nan, math.nan), Verdict.UNDECIDED),
    ],
)
def test_both_intervals_have_to_lie_on_one_side(draws, seeds, expected):
    assert verdict_on(interval(*draws, seeds), 0.0) is expected


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ((-0.005, 0.02), Verdict.HOLDS),  # no worse than a point
        ((-0.005, -0.002), Verdict.HOLDS),  # worse for sure, but by less than the margin
        ((-0.015, 0.02), Verdict.UNDECIDED),
        ((-0.03, -0.015), Verdict.DOES_NOT_HOLD),
        ((-0.01, 0.02), Verdict.UNDECIDED),
    ],
)
def test_a_margin_moves_the_line(draws, expected):
    assert verdict_on(interval(*draws), 0.01) is expected


def test_what_was_not_measured_is_undecided():
    assert verdict_on(None, 0.0) is Verdict.UNDECIDED


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_a_claim_and_its_opposite_never_both_hold(low, width, margin):
    gain, loss = interval(low, low + width), interval(-low - width, -low)
    both = verdict_on(gain, 0.0), verdict_on(loss, 0.0)
    assert both in {(2, 0), (0, 2), (1, 1)}
    assert verdict_on(gain, margin) >= verdict_on(gain, 0.0), "a margin only makes it easier"


@pytest.mark.parametrize("first", Verdict)
@pytest.mark.parametrize("second", Verdict)
def test_all_of_a_way_and_any_of_the_ways(first, second):
    def judged(*answers):
        return tuple(SimpleNamespace(verdict=one) for one in answers)

    assert JudgedClaim(BETTER, (judged(first, second),)).verdict == min(first, second)
    assert JudgedClaim(BETTER, (judged(first), judged(second))).verdict == max(first, second)
    ways = (judged(first, Verdict.HOLDS), judged(second, Verdict.DOES_NOT_HOLD))
    assert JudgedClaim(BETTER, ways).verdict is first


# --------------------------------------------------------------------------------------
# The stage


def test_a_pair_is_compared_over_the_seeds_both_have(ablation):
    findings = read_findings(ablation)
    table = pq.read_table(ablation.payload() / "study.parquet")
    assert table.schema == ROWS
    grain = [
        tuple(row[key] for key in ("seed", "arm", "baseline", "metric", "kind"))
        for row in table.to_pylist()
    ]
    assert len(set(grain)) == len(grain)
    metric = "miou_union_unseen"
    pair = findings.gain("strong", "weak", metric)
    assert pair.student is not None
    each = [findings.gain("strong", "weak", metric, seed).value for seed in "012"]
    assert pair.value == pytest.approx(np.mean(each))
    alone = findings.gain("strong", "middle", metric)
    assert alone.student is None
    strong, middle = (findings.score(name, metric, "0").value for name in ("strong", "middle"))
    assert alone.value == pytest.approx(strong - middle)
    assert findings.gain("strong", "middle", metric, "1") is None


def test_the_claims_are_rows(ablation):
    table = pq.read_table(ablation.payload() / "claims.parquet")
    assert table.schema == CLAIMS
    better, worse = table.to_pylist()
    assert (better["claim"], better["verdict"], better["seeds"]) == ("better", "holds", 3)
    assert worse["verdict"] == "does not hold"
    assert better["low"] > 0 and better["seeds_low"] > 0 and worse["high"] < 0
    assert better["value"] == pytest.approx(-worse["value"])
    assert ablation.stats["verdicts"] == {"better": "holds", "worse": "does not hold"}


def test_a_claim_about_a_cell_that_is_not_there_is_undecided(inputs, tmp_path):
    lost = Claim(name="lost", text="x", ways=(above("gone", "weak"), above("strong", "gone")))
    config = CONFIG.model_copy(update={"claims": (lost,)})
    findings = read_findings(run_stage(STUDY, config, inputs, tmp_path))
    (lost,) = judged_claims(findings)
    assert lost.verdict is Verdict.UNDECIDED
    assert "not measured" in in_words(lost.ways[0][0], findings)
    assert judge(BETTER, findings).verdict is Verdict.UNDECIDED, "no such pair was compared"


def test_files_are_whole_and_the_same_again(ablation, inputs, tmp_path):
    again = run_stage(STUDY, CONFIG, inputs, tmp_path)
    assert again.shards[0].sha256 == ablation.shards[0].sha256
    with Image.open(ablation.payload() / "overview.png") as picture:
        assert picture.width >= 1200 and picture.height >= 400
    text = (ablation.payload() / "study.md").read_text()
    assert "| the middle one | 1 |" in text and "| the strong one | 3 |" in text
    assert "Strong beats weak: **holds**" in text and "over 3 seeds" in text


def test_without_a_scored_cell_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(OvsegError, match="no cell of this ablation was scored"):
        run_stage(STUDY, CONFIG, {}, tmp_path)


# --------------------------------------------------------------------------------------
# The page


def test_the_page_tells_measured_from_published(ablation, tmp_path):
    table = Table(
        title="Toys",
        question="Which?",
        cells={
            "weak": Cell(title="the weak one"),
            "sam": Cell(title="SAM", presets=("paper",), skipped="no weights"),
        },
        reference="weak",
        expect="",
        cost="",
        published=Published(source="Table 9", headings=("toy", "mIoU"), rows=(("bear", "12.3"),)),
    )
    page = Page(
        plan=Plan(
            "storybook",
            3,
            tmp_path / "runs",
            None,
            (PlannedTable("toy", table.of("storybook"), ()),),
        ),
        compared=[Compared("toy", "toy", ablation)],
        failed=[Failed("toy", "broken", 1, "no such weights")],
        command="ovseg ablate toy",
        commit="abc",
        seconds=75,
    )
    out = tmp_path / "docs" / "page.md"
    publish_page(page, out)
    first = out.read_bytes()
    publish_page(page, out)  # over what it made itself
    assert out.read_bytes() == first
    text = out.read_text()
    assert "ovseg ablate toy" in text and "Commit abc" in text and "This call took 75 s" in text
    assert "**holds**" in text and "**does not hold**" in text
    assert "SAM: *skipped*, no weights" in text
    assert "broken, seed 1: *failed*, no such weights" in text
    before, _, after = text.partition("Published, Table 9; mIoU in % on photographs")
    assert "| bear | 12.3 |" in after and "bear" not in before
    plots = sorted(path.name for path in (tmp_path / "docs" / "page").iterdir())
    assert plots == [
        *("ovseg-files.json", "toy-toy-claims.parquet", "toy-toy.parquet", "toy-toy.png")
    ]
    assert "](page/toy-toy.png)" in text
    mine = tmp_path / "docs" / "page" / "mine.png"
    mine.write_text("mine")
    with pytest.raises(OvsegError, match=r"holds mine\.png, which ovseg ablate did not write"):
        publish_page(page, out)
    assert mine.read_text() == "mine" and out.read_bytes() == first
