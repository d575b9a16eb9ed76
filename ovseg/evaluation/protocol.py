"""The protocol of a score: the columns that accompany its value in every row."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.config.renamed import translated
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.published import PUBLISHED
from ovseg.stages.manifest import Manifest

_MEANS = (  # by prefix of the metric's name, longer ones first
    ("miou_union", "union"),
    ("miou_gt", "gt"),
    ("macc", "gt"),
    ("mask_acc_class", "mask classes"),
    ("mask_acc", "masks"),
    ("fwiou", "pixels"),
    ("pacc", "pixels"),
)
_ELSEWHERE = (  # in columns of their own, or without influence on a score
    *("benchmark", "limit", "seen", "trained_on", "seen_split", "system"),
    *("shard_size", "min_shards"),
)


def denominator(metric: str) -> str:
    """Return what a metric is averaged over, or a share of.

    Returns:
        `union`: classes with pixels in ground truth or prediction. `gt`: classes in ground truth.
        `pixels`, `masks`: those of ground truth. `mask classes`: classes that have masks.
    """
    plain = metric.removeprefix("boundary_")
    for start, means in _MEANS:
        if plain.startswith(start):
            return means
    raise ValueError(f"unknown metric {metric!r}")


def vocabulary_digest(classes: Sequence[str]) -> str:
    """Return 16 hex digits of a sha256 over the class names in order, one per line."""
    return hashlib.sha256("\n".join(classes).encode()).hexdigest()[:16]


def protocol(benchmark: Manifest) -> dict[str, Any]:
    """Return the columns of `ovseg.stages.schema.PROTOCOL_FIELDS` for a finished benchmark."""
    return protocol_columns(benchmark, benchmark.config)


def protocol_columns(measured: Manifest, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same columns for any run over a benchmark's images.

    Args:
        measured: the run; its stats hold `n`, `bad` and `class_names`.
        config: the settings of the benchmark, as `BenchmarkConfig` publishes them.
    """
    stats = measured.stats
    trained_on = "named" if config["seen"] else "+".join(config["trained_on"])
    return {
        "images": stats["n"] - stats["bad"],
        "image_limit": config["limit"],
        "classes": len(stats["class_names"]),
        "vocabulary_digest": vocabulary_digest(stats["class_names"]),
        "checkpoint_digest": measured.parents.get("checkpoint"),
        "clip_digest": measured.weights.get("clip"),
        "maskformer_digest": measured.weights.get("maskformer"),
        "resize_rule": (
            f"short side {config['short_side']}, long side at most {config['max_side']};"
            " class decided at the original size"
        ),
        "templates": config["templates"],
        "mask_threshold": config["mask_threshold"],
        "ensemble": config["ensemble"],
        "ensemble_weight": config["ensemble_weight"],
        "oracle": config["oracle"],
        "region": config["region"],
        "expand_ratio": config["expand_ratio"],
        "mask_prompts": config["mask_prompts"],
        "inference": config["inference"],
        "trained_on": trained_on or None,
        "seen_split": config["seen_split"] or None,
        "system": config["system"],
        "settings": _changed(config),
    }


def _changed(config: Mapping[str, Any]) -> str:
    """Return the settings that differ from their defaults, as JSON with sorted names."""
    default = BenchmarkConfig().result_fields()
    changed = {
        name: value
        for name, value in translated("benchmarks", config).items()
        if name in default and name not in _ELSEWHERE and value != default[name]
    }
    return json.dumps(changed, sort_keys=True)


FILE = Path(__file__).with_name("published.tsv")


def read_published() -> list[dict[str, Any]]:
    """Read rows of `ovseg.stages.schema.PUBLISHED_RESULTS`; None if the source does not say."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        rows = [*csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return [
        {
            **{name: text or None for name, text in row.items()},
            "value": float(row["value"]),
            "images": PUBLISHED[row["benchmark"]].images,
        }
        for row in rows
    ]
