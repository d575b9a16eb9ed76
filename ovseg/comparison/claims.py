"""What is claimed of an ablation's cells, and whether the intervals bear it out.

    judged = [judge(claim, findings) for claim in config.claims]

A comparison of two cells holds if every interval of their paired difference lies above minus its
margin, does not hold if every one lies below it, and is undecided else. A claim is made of
comparisons: all of one way have to hold. Nothing here knows what came out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ovseg.comparison.findings import METRICS, Estimate, Findings
from ovseg.comparison.words import signed
from ovseg.config.reporting import Claim, Comparison

Row = dict[str, Any]


class Answer(IntEnum):
    """In the order of truth: *and* is the least of them, *or* the greatest."""

    DOES_NOT_HOLD = 0
    UNDECIDED = 1
    HOLDS = 2

    @property
    def words(self) -> str:
        """As it is printed."""
        return ("does not hold here", "undecided", "holds")[self]


@dataclass(frozen=True)
class Judged:
    """A comparison and what its difference answers.

    Attributes:
        comparison: what is compared.
        gain: the paired difference better minus worse; None where it could not be measured.
        seeds: over how many seeds.
        answer: read off the intervals.
    """

    comparison: Comparison
    gain: Estimate | None
    seeds: int
    answer: Answer


@dataclass(frozen=True)
class Verdict:
    """A claim with its comparisons, way by way, and the answer they give together."""

    claim: Claim
    ways: tuple[tuple[Judged, ...], ...]

    @property
    def answer(self) -> Answer:
        """The claim's: all comparisons of some way."""
        return max(min(one.answer for one in way) for way in self.ways)


def answer(gain: Estimate | None, margin: float) -> Answer:
    """Whether a difference is above minus a margin.

    Args:
        gain: the paired difference; its bootstrap interval and, over several seeds, Student's t
            interval over the seeds alone, which with few seeds is not to be done without.
        margin: as a fraction, 0 or more.
    """
    if gain is None:
        return Answer.UNDECIDED
    intervals = [(gain.low, gain.high), *([gain.student] if gain.student else [])]
    if any(math.isnan(bound) for interval in intervals for bound in interval):
        return Answer.UNDECIDED
    if all(low > -margin for low, _ in intervals):
        return Answer.HOLDS
    if all(high < -margin for _, high in intervals):
        return Answer.DOES_NOT_HOLD
    return Answer.UNDECIDED


def judge(claim: Claim, findings: Findings) -> Verdict:
    """Hold a claim against the findings of its ablation."""
    return Verdict(claim, tuple(tuple(_judged(one, findings) for one in way) for way in claim.ways))


def _judged(one: Comparison, findings: Findings) -> Judged:
    gain = findings.gain(one.better, one.worse, one.metric)
    each = [findings.gain(one.better, one.worse, one.metric, seed) for seed in findings.seeds]
    return Judged(one, gain, sum(found is not None for found in each), answer(gain, one.margin))


def compared_pairs(claims: tuple[Claim, ...]) -> list[tuple[str, str]]:
    """Every pair of cells that the claims hold against each other."""
    return [(one.better, one.worse) for claim in claims for way in claim.ways for one in way]


def claim_rows(verdicts: list[Verdict], findings: Findings, table: str) -> Iterator[Row]:
    """The rows of `ovseg.stages.schema.CLAIMS`: one for each comparison of a claim."""
    for verdict in verdicts:
        for number, way in enumerate(verdict.ways, start=1):
            for judged in way:
                gain = judged.gain
                low, high = gain.student if gain and gain.student else (None, None)
                yield {
                    "benchmark": findings.config.benchmark,
                    "ablation": table,
                    "claim": verdict.claim.name,
                    "text": verdict.claim.text,
                    "verdict": verdict.answer.words,
                    "way": number,
                    **judged.comparison.model_dump(),
                    "answer": judged.answer.words,
                    "seeds": judged.seeds,
                    "value": None if gain is None else gain.value,
                    "low": None if gain is None else gain.low,
                    "high": None if gain is None else gain.high,
                    "seeds_low": low,
                    "seeds_high": high,
                }


# --------------------------------------------------------------------------------------
# In words


def in_words(judged: Judged, findings: Findings) -> str:
    """`fine-tuned minus original CLIP, mIoU unseen: +6.2 [4.7, 7.9] over 3 seeds: holds`."""
    one = judged.comparison
    names = f"{findings.title(one.better)} minus {findings.title(one.worse)}"
    what = f"{names}, {METRICS[one.metric]}"
    if judged.gain is None:
        return f"{what}: not measured, so {judged.answer.words}"
    seeds = "1 seed" if judged.seeds == 1 else f"{judged.seeds} seeds"
    bounds = f"{signed(judged.gain)} over {seeds}"
    if judged.gain.student is not None:
        low, high = (round(100 * bound, 1) + 0.0 for bound in judged.gain.student)
        bounds += f", by the spread of the seeds alone [{low:.1f}, {high:.1f}]"
    asked = f" (asked: above -{100 * one.margin:g})" if one.margin else ""
    return f"{what}: {bounds}{asked}: {judged.answer.words}"
