"""The claims about the models of a study, and whether the intervals support them.

    for one in judged_claims(findings):
        print(one.claim.text, one.verdict.words)

A comparison of two models holds if every interval of their paired difference lies above minus its
margin, does not hold if every one lies below it, and is undecided otherwise. A claim consists of
alternative sets of comparisons; it holds if all comparisons of one set hold. Nothing here depends
on the outcome.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ovseg.comparison.findings import METRICS, Estimate, Findings
from ovseg.comparison.words import interval, percent, seeds_in_words
from ovseg.config.reporting import Claim, Comparison

Row = dict[str, Any]
ASKED = ("mask_acc_unseen", "miou_union_unseen", "mask_acc", "miou_union")
"""The metrics of a run's default claims; the first two apply if there are unseen classes."""

RULE = (
    "A comparison holds if every interval of its paired differences lies above 0 (or above minus"
    " the allowed margin), does not hold if every one lies below, and is undecided otherwise; with"
    " several seeds, the interval from the spread of the seeds alone must agree. A claim holds if"
    " all comparisons of one of its alternatives hold, and does not hold if each alternative has"
    " one that does not."
)


class Verdict(IntEnum):
    """The result of a comparison, ordered so that *and* is the minimum and *or* the maximum."""

    DOES_NOT_HOLD = 0
    UNDECIDED = 1
    HOLDS = 2

    @property
    def words(self) -> str:
        """The verdict in words."""
        return ("does not hold", "undecided", "holds")[self]


@dataclass(frozen=True)
class Judged:
    """A comparison and the verdict on it.

    Attributes:
        comparison: what is compared.
        gain: the paired difference better minus worse; None if it could not be measured.
        seeds: number of seeds.
        higher: number of seeds in which the difference is above 0.
        verdict: from the intervals.
    """

    comparison: Comparison
    gain: Estimate | None
    seeds: int
    higher: int
    verdict: Verdict


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its alternative sets of comparisons and the resulting verdict."""

    claim: Claim
    ways: tuple[tuple[Judged, ...], ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict: holds if all comparisons of some set hold."""
        return max(min(one.verdict for one in way) for way in self.ways)


def verdict_on(gain: Estimate | None, margin: float) -> Verdict:
    """Return whether a difference is above minus a margin.

    Args:
        gain: the paired difference; its bootstrap interval and, over several seeds, Student's t
            interval over the seeds alone, which is indispensable with few seeds.
        margin: as a fraction, 0 or more.
    """
    if gain is None:
        return Verdict.UNDECIDED
    intervals = [(gain.low, gain.high), *([gain.student] if gain.student else [])]
    if any(math.isnan(bound) for both in intervals for bound in both):
        return Verdict.UNDECIDED
    if all(low > -margin for low, _ in intervals):
        return Verdict.HOLDS
    if all(high < -margin for _, high in intervals):
        return Verdict.DOES_NOT_HOLD
    return Verdict.UNDECIDED


def judge(claim: Claim, findings: Findings) -> JudgedClaim:
    """Judge a claim by the findings of its study."""
    ways = tuple(tuple(_judged(one, findings) for one in way) for way in claim.ways)
    return JudgedClaim(claim, ways)


def judged_claims(findings: Findings) -> list[JudgedClaim]:
    """Judge the configured claims of a study; they default to a run's own."""
    claims = findings.config.claims
    return [judge(one, findings) for one in (own_claims(findings) if claims is None else claims)]


def own_claims(findings: Findings) -> Iterator[Claim]:
    """Yield the default claims: each arm gains over the baseline, and the favorite is the best.

    Only pairs that both have the score are compared.
    """
    names = [name for name in ASKED[:2] if name in findings.metrics]
    names = names or [name for name in ASKED[2:] if name in findings.metrics]
    baseline, favorite = findings.config.baseline, findings.config.favorite
    title = findings.title
    if baseline in findings.titles:
        for arm in findings.challengers:
            text = f"{title(arm)} above {title(baseline)}"
            yield from _claims(findings, arm, [baseline], names, text)
    if favorite in findings.titles:
        others = [arm for arm in findings.titles if arm != favorite]
        text = f"{title(favorite)} above all others"
        yield from _claims(findings, favorite, others, names, text)


def _claims(
    findings: Findings, better: str, others: Sequence[str], metrics: Sequence[str], text: str
) -> Iterator[Claim]:
    """Yield a claim for each metric: one arm above all others that have it."""
    for metric in metrics:
        way = tuple(
            Comparison(better=better, worse=worse, metric=metric)
            for worse in others
            if findings.gain(better, worse, metric) is not None
        )
        if way:
            name = f"{better}-over-{'-'.join(one.worse for one in way)}-{metric}"
            yield Claim(name=name, text=f"{METRICS[metric]}: {text}", ways=(way,))


def _judged(one: Comparison, findings: Findings) -> Judged:
    gain = findings.gain(one.better, one.worse, one.metric)
    each = [findings.gain(one.better, one.worse, one.metric, seed) for seed in findings.seeds]
    values = [found.value for found in each if found is not None]
    higher = sum(value > 0 for value in values)
    return Judged(one, gain, len(values), higher, verdict_on(gain, one.margin))


def compared_pairs(claims: Sequence[Claim]) -> list[tuple[str, str]]:
    """Return every pair of models that the claims compare."""
    return [(one.better, one.worse) for claim in claims for way in claim.ways for one in way]


def claim_rows(claims: Sequence[JudgedClaim], findings: Findings) -> Iterator[Row]:
    """Yield the rows of `ovseg.stages.schema.CLAIMS`: one per comparison."""
    for of_claim in claims:
        for number, way in enumerate(of_claim.ways, start=1):
            for judged in way:
                gain = judged.gain
                low, high = gain.student if gain and gain.student else (None, None)
                yield {
                    "benchmark": findings.config.benchmark,
                    "ablation": findings.config.table,
                    "claim": of_claim.claim.name,
                    "text": of_claim.claim.text,
                    "verdict": of_claim.verdict.words,
                    "way": number,
                    **judged.comparison.model_dump(),
                    "answer": judged.verdict.words,
                    "seeds": judged.seeds,
                    "value": None if gain is None else gain.value,
                    "low": None if gain is None else gain.low,
                    "high": None if gain is None else gain.high,
                    "seeds_low": low,
                    "seeds_high": high,
                }


# --------------------------------------------------------------------------------------
# In words


def in_words(judged: Judged, findings: Findings, *, draws: bool = False) -> str:
    """Return `fine-tuned minus original CLIP, mIoU unseen: +6.2 [4.7, 7.9] over 3 seeds: holds`.

    Args:
        judged: the comparison.
        findings: its study, for the titles.
        draws: also say in how many draws and seeds the difference is above 0.
    """
    one, gain = judged.comparison, judged.gain
    names = f"{findings.title(one.better)} minus {findings.title(one.worse)}"
    what = f"{names}, {METRICS[one.metric]}"
    if gain is None:
        return f"{what}: not measured, so {judged.verdict.words}"
    told = f"{gain.signed} over {seeds_in_words(judged.seeds)}"
    if gain.student is not None:
        told += f", from the spread of the seeds alone {interval(*gain.student)}"
    if draws:
        share = percent(gain.improved, places=0, undefined="?")
        seeds = f"{judged.higher} of {seeds_in_words(judged.seeds)}"
        told += f"; above 0 in {share} % of the draws; higher in {seeds}"
    asked = f" (required: above -{100 * one.margin:g})" if one.margin else ""
    return f"{what}: {told}{asked}: {judged.verdict.words}"


def comparison_lines(
    of_claim: JudgedClaim, findings: Findings, *, draws: bool = False
) -> Iterator[str]:
    """Yield a line for each comparison of a claim; later alternatives begin with *or*."""
    for number, way in enumerate(of_claim.ways):
        for judged in way:
            yield f"{'or ' if number else ''}{in_words(judged, findings, draws=draws)}"


def claim_lines(
    claims: Sequence[JudgedClaim], findings: Findings, *, draws: bool = False
) -> Iterator[str]:
    """Yield a Markdown list item for each claim with its verdict, and one for each comparison."""
    for of_claim in claims:
        yield f"- {of_claim.claim.text}: **{of_claim.verdict.words}**"
        for line in comparison_lines(of_claim, findings, draws=draws):
            yield f"  - {line}"
        if of_claim.claim.note:
            yield f"  - {of_claim.claim.note}"
