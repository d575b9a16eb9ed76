"""The model card of weights that this repository trained, written by the run that made them.

A card says what the weights are, which command rebuilds them, how long that takes, how good they
are and what they are not for. No figure in it is typed by hand.
"""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovseg import __version__
from ovseg.files.publish import publish_text
from ovseg.stages.threads import cores

NAME = "MODEL_CARD.md"


STORYBOOK_CLIP = {
    "licence": (
        "Apache-2.0, as this repository. The vocabulary file is cut from OpenAI CLIP's (MIT"
        " licence)."
    ),
    "limits": (
        "A miniature: it knows some fifty drawn categories and nothing of photographs. Its figures"
        " say that the machinery works and are not comparable with published ones."
    ),
}
"""Card texts shared by the two compact CLIPs."""
STORYBOOK_PROPOSALS = {
    "licence": "Apache-2.0, as the repository; no external data or weights went in.",
    "limits": (
        "Knows only storybook scenes. Useless on photographs; its numbers are never set beside"
        " published ones."
    ),
}
"""Card texts shared by the two proposal networks."""


def recall_note(scenes: int) -> str:
    """Say how a proposal network was measured; the caller ends the sentence."""
    return (
        f"On {scenes} validation scenes, no post-processing. Recall is blind to classes, over all"
        " queries, for single segments and for the union of a category's segments"
    )


def captioned_pictures(*, scenes: int, pictures: int, steps: int, batch: int) -> str:
    """Say what a compact CLIP was trained on."""
    return (
        f"{scenes} storybook scenes of the pretraining part (drawn by this repository) as whole"
        f" pictures and loose crops, {pictures} in all, with captions of all categories and"
        f" without masks; {steps} steps of {batch}."
    )


def write_card(
    folder: Path,
    *,
    title: str,
    purpose: str,
    command: str,
    seed: int,
    seconds: float,
    metrics: Mapping[str, float],
    data: str,
    licence: str,
    limits: str,
    metrics_note: str = "",
    packages: Sequence[str] = ("torch", "numpy"),
) -> None:
    """Write a model card atomically.

    Args:
        folder: of the weights.
        title: the heading.
        purpose: what the weights are and what they are meant for.
        command: arguments of `python -m flows.pretrain` that rebuild them.
        seed: the run's seed.
        seconds: the run's duration.
        metrics: values by name; `part/metric` names fill a table, one column per part, one row per
            metric.
        data: what they were trained on, with version and attribution.
        licence: the license of the weights.
        limits: what they are not for.
        metrics_note: how the metrics were measured.
        packages: distributions whose installed versions are listed after Python and ovseg.
    """
    parts = [
        f"# {title}",
        purpose,
        "## How to rebuild",
        f"```\npython -m flows.pretrain {command}\n```",
        _facts(
            {
                "seed": str(seed),
                "duration": _duration(seconds),
                "machine": f"{platform.system()} {platform.machine()}, {cores()} CPU cores",
                "versions": _versions(packages),
            }
        ),
        "## Metrics",
        metrics_note,
        _tables(metrics),
        "## Data",
        data,
        "## Licence",
        licence,
        "## Limits",
        limits,
    ]
    publish_text("\n\n".join(part.strip() for part in parts if part.strip()) + "\n", folder / NAME)


def _tables(metrics: Mapping[str, float]) -> str:
    """Return a list of the metrics without a slash, then a table of those named `part/metric`."""
    single = {name: _number(value) for name, value in metrics.items() if "/" not in name}
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if "/" in name:
            row, column = name.split("/", 1)
            rows.setdefault(row, {})[column] = value
    blocks = [_facts(single)] if single else []
    if rows:
        columns = list(dict.fromkeys(column for values in rows.values() for column in values))
        # One row per metric: there are more metrics than fit across a page.
        lines = ["| | " + " | ".join(rows) + " |", "|---|" + "---:|" * len(rows)]
        for column in columns:
            cells = [
                _number(values[column]) if column in values else "" for values in rows.values()
            ]
            lines.append(f"| {column} | " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _versions(packages: Sequence[str]) -> str:
    versions = [f"Python {platform.python_version()}", f"ovseg {__version__}"]
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} (not installed)")
    return ", ".join(versions)
