"""Precision of the mined pairs: each kept pair's mask is compared with panoptic ground truth.

A pair is correct if its noun names the category of most of its mask's pixels. A noun that names no
category of the ground truth ("picture", or "dog" if dogs are not labelled) is never correct, so the
precision is a lower bound if the labels are incomplete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovseg.config.mining import TruthConfig
from ovseg.data import masks
from ovseg.data.benchmarks.label_maps import LabelError, read_colors
from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.data.captions.captioned_image import inside
from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.files.json_files import read_json
from ovseg.files.parquet_files import read_parquet, write_parquet
from ovseg.stages.manifest import ShardPlan, ShardRecord
from ovseg.stages.schema import PAIR_TRUTH, rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage


def category_names(categories: Iterable[str]) -> dict[str, str]:
    """Map each word or compound that names a category of the ground truth to the category's name.

    A category is named by its own name, without the `-merged` of COCO's panoptic stuff; one that
    the storybook or COCO-Stuff knows also by its synonyms (and the storybook's compounds). A
    category's own name takes precedence over another's synonym.
    """
    from ovseg.storybook.categories import CATEGORIES

    words = {each.name: (*each.synonyms, *each.compounds) for each in CATEGORIES}
    for known in read_vocabulary("coco-stuff-171"):
        words[known.name] = (*words.get(known.name, ()), *known.synonyms)
    plain = {name: name.removesuffix("-merged") for name in categories}
    meaning = {word: name for name, word in plain.items()}
    for name, word in plain.items():
        for other in words.get(word, ()):
            meaning.setdefault(other, name)
    return meaning


def panoptic_folder(panoptic: Path) -> Path:
    """Return the folder of a panoptic JSON's PNGs: `panoptic`, next to the JSON's own folder."""
    return panoptic.parent.parent / "panoptic"


def read_panoptic(panoptic: Path) -> tuple[list[str], dict[int, tuple[Path, dict[int, str]]]]:
    """Read the names of all categories, and each image's PNG and the category of its segment ids.

    Args:
        panoptic: COCO panoptic JSON; its PNGs are in `panoptic_folder`.

    Raises:
        OvsegError: if the file is missing or is not a COCO panoptic JSON.
    """
    try:
        data = read_json(panoptic, advice="get it again")
        names = {category["id"]: category["name"] for category in data["categories"]}
        folder = panoptic_folder(panoptic)
        for item in data["annotations"]:
            if not inside(item["file_name"]):
                raise ValueError(f"the file name {item['file_name']!r} leads out of {folder}")
        return list(names.values()), {
            item["image_id"]: (
                folder / item["file_name"],
                {s["id"]: names[s["category_id"]] for s in item["segments_info"]},
            )
            for item in data["annotations"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OvsegError(f"{panoptic} is not a COCO panoptic JSON: {error!r}") from error


def segment_ids(path: Path) -> NDArray[np.int64]:
    """Read the segment ids (H, W) of a COCO panoptic PNG: r + 256 g + 65536 b.

    Raises:
        OvsegError: if the file cannot be read.
    """
    try:
        rgb = read_colors(path).astype(np.int64)
    except LabelError as error:
        raise OvsegError(f"panoptic ground truth {path} cannot be read: {error}") from error
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def judge(
    mask_hw: NDArray[np.bool_], categories_hw: NDArray[np.int64], names: Sequence[str]
) -> tuple[str | None, float, float]:
    """Find the category under a mask.

    Args:
        mask_hw: bool (H, W).
        categories_hw: int (H, W), an index into `names`; -1 for unlabelled pixels.
        names: category names.

    Returns:
        The most frequent category under the mask (None: unlabelled), its share of the mask in [0,
        1], and the IoU in [0, 1] of the mask and that category's region.
    """
    under = categories_hw[mask_hw]
    labelled = under[under >= 0]
    if not labelled.size:
        return None, 0.0, 0.0
    counts = np.bincount(labelled, minlength=len(names))
    best = int(counts.argmax())
    union = int(mask_hw.sum()) + int((categories_hw == best).sum()) - int(counts[best])
    return names[best], counts[best] / under.size, counts[best] / union


class TruthStage(Stage[TruthConfig]):
    """Judges the kept pairs of a published table."""

    name = "pair-truth"

    def plan(self, config: TruthConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        return ShardPlan.single(inputs["table"].content_digest, inputs["table"].rows)

    def weights(self, config: TruthConfig, inputs: Inputs) -> dict[str, str]:
        """Return content digests of the ground truth: of the JSON and of the PNGs."""
        if config.panoptic is None:
            raise OvsegError("pair truth needs panoptic ground truth: set panoptic")
        if not config.panoptic.is_file():
            raise OvsegError(f"{config.panoptic} does not exist: correct the setting panoptic")
        folder = panoptic_folder(config.panoptic)
        if not folder.is_dir():
            raise OvsegError(f"{folder} does not exist: the PNGs of {config.panoptic} belong there")
        return {"panoptic": file_sha256(config.panoptic), "segments": file_sha256(folder)}

    def write(
        self, config: TruthConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Judge every kept pair, an image at a time."""
        assert config.panoptic is not None  # `weights` has rejected None
        categories, truth = read_panoptic(config.panoptic)
        meaning = category_names(categories)
        columns = ["pair_id", "noun", "image_id", "mask_size", "mask_counts", "kept"]
        by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for path in sorted(inputs["table"].payload().rglob("*.parquet")):
            for pair in read_parquet(path, columns).to_pylist():
                if pair["kept"] and pair["image_id"] in truth:
                    by_image[pair["image_id"]].append(pair)
        rows: list[dict[str, Any]] = []
        for image_id, pairs in sorted(by_image.items()):
            rows += _judge_image(pairs, *truth[image_id], meaning)
            progress(len(pairs))
        rows.sort(key=lambda row: str(row["pair_id"]))
        write_parquet(rows_to_table(rows, PAIR_TRUTH), target)
        stats = {
            "pairs": len(rows),
            "named": sum(row["noun_category"] is not None for row in rows),
            "correct": sum(row["correct"] for row in rows),
        }
        return Output(rows=len(rows), stats=stats)

    def summarize(
        self, config: TruthConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Return counts, and the precision over all kept pairs and over those with a category."""
        (stats,) = (record.stats for record in records)
        return {
            **stats,
            "precision": stats["correct"] / max(1, stats["pairs"]),
            "precision_of_named": stats["correct"] / max(1, stats["named"]),
        }


def _judge_image(
    pairs: Sequence[Mapping[str, Any]],
    path: Path,
    segments: Mapping[int, str],
    meaning: Mapping[str, str],
) -> list[dict[str, Any]]:
    ids = segment_ids(path)
    names = sorted(set(segments.values()))
    categories = np.full(ids.shape, -1, dtype=np.int64)
    for segment, name in segments.items():
        categories[ids == segment] = names.index(name)
    rows = []
    for pair in pairs:
        mask = masks.decode_row(pair)
        if mask.shape != ids.shape:
            raise OvsegError(
                f"{path} is {ids.shape[1]} x {ids.shape[0]} pixels and the mask of pair"
                f" {pair['pair_id']} {mask.shape[1]} x {mask.shape[0]}: this ground truth belongs"
                " to other images"
            )
        category, share, iou = judge(mask, categories, names)
        noun_category = meaning.get(pair["noun"])
        rows.append(
            {
                "pair_id": pair["pair_id"],
                "noun": pair["noun"],
                "noun_category": noun_category,
                "gt_category": category,
                "gt_share": share,
                "gt_iou": iou,
                "correct": noun_category is not None and noun_category == category,
            }
        )
    return rows


TRUTH = TruthStage()
