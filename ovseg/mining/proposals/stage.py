"""The proposals stage: masks proposed for every image, as run-length encodings.

    proposals = run_stage(
        PROPOSALS, ProposalsConfig(image_root=...), {"images": images}, Path("runs/mine")
    )

The source is a name in `ovseg.config.registry.SOURCES`. Every mask (for a network, every query) is
a row, kept or not: the gates are off by default, because the paper has none, and an empty mask is
marked as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovseg.config.mining import ProposalsConfig
from ovseg.data import mask_tensors, masks
from ovseg.data.image_reader import ListedImages
from ovseg.data.images import ImageArray, ImageError
from ovseg.errors import OvsegError
from ovseg.files.parquet_files import write_parquet
from ovseg.mining import gates
from ovseg.mining.proposals.source import EncodedProposals, MaskSource, ProposalSource
from ovseg.mining.proposals.sources import proposal_source
from ovseg.stages.background import Background
from ovseg.stages.device_turns import device_is_free
from ovseg.stages.manifest import ShardRecord
from ovseg.stages.schema import PROPOSALS as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.stages.stopwatch import waiting, waiting_for

Row = dict[str, Any]
PIXELS_AHEAD = 2**28
"""Pixels of masks (of one byte each) that may wait to be encoded while a network goes on."""


class ProposalsStage(Stage[ProposalsConfig]):
    """Asks the proposal source for the masks of the images of a shard."""

    name = "proposals"

    def weights(self, config: ProposalsConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digests of everything the source reads apart from the images."""
        return dict(proposal_source(config).weights)

    def write(
        self,
        config: ProposalsConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Propose masks for the images of one shard."""
        source = proposal_source(config)
        listed = inputs["images"].shard_table(shard).to_pylist()
        reader = ListedImages(
            config.image_root, setting="data.images", workers=config.decode_workers
        )
        rows = [_no_proposal(image, "image_dropped") for image in listed if not image["kept"]]
        progress(len(rows))
        kept = [image for image in listed if image["kept"]]
        encoded_rows: list[Future[list[Row]]] = []
        resizing = Background("resize", most=min(1, PIXELS_AHEAD))
        with resizing, Background("encode", most=PIXELS_AHEAD) as encoding:
            for batch in _batches(reader.read(kept), config.batch_size, source, resizing):
                rows += [
                    _no_proposal(image, pixels.reason)
                    for image, pixels in batch.read
                    if isinstance(pixels, ImageError)
                ]
                encoded_rows += _propose(batch, source, config, encoding)
                progress(len(batch.read))
            device_is_free()
        rows += [row for image in encoded_rows for row in image.result()]
        label = source.label  # computed from the weights
        for row in rows:
            row["proposal_model"] = label
        rows.sort(key=lambda row: (row["image_id"], row["proposal_id"]))
        with waiting("write"):
            write_parquet(rows_to_table(rows, SCHEMA), target)
        stats = reader.stats()
        bad = [row for row in rows if row["drop_reason"] and _kind(row) == "bad_labels"]
        if bad:
            paths = {image["image_id"]: image["image_path"] for image in listed}
            first = f"{paths[bad[0]['image_id']]}: {bad[0]['drop_reason']}"
            stats |= {"bad": stats["bad"] + len(bad), "first_bad": stats["first_bad"] or first}
        return Output(rows=len(rows), stats={**stats, **_stats(rows)})

    def summarize(
        self, config: ProposalsConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Add up the shards' stats.

        Raises:
            OvsegError: if no image has a label map, so that the labels belong to other images.
        """
        stats = super().summarize(config, inputs, records)
        if stats["n"] and stats["dropped"].get("no_labels", 0) == stats["n"]:
            raise OvsegError(
                f"{config.labels} has labels for none of the {stats['n']} images: set"
                " data.labels to the labelled set of these images"
            )
        return stats


PROPOSALS = ProposalsStage()

Read = tuple[Mapping[str, Any], ImageArray | ImageError]


class _Batch(NamedTuple):
    read: list[Read]
    readable: list[tuple[Mapping[str, Any], ImageArray]]
    prepared: Future[Any] | None
    """For a `MaskSource`."""


def _batches(
    read: Iterable[Read], size: int, source: ProposalSource, resizing: Background
) -> Iterator[_Batch]:
    """Cut images into batches; while one is proposed for, the next is prepared."""
    images, ready = iter(read), None
    while batch := list(islice(images, size)):
        readable = [(row, image) for row, image in batch if not isinstance(image, ImageError)]
        prepared = None
        if isinstance(source, MaskSource):
            prepared = resizing.submit(source.prepare, readable, weight=1)
        if ready is not None:
            yield ready
        ready = _Batch(batch, readable, prepared)
    if ready is not None:
        yield ready


def _propose(
    batch: _Batch, source: ProposalSource, config: ProposalsConfig, encoding: Background
) -> list[Future[list[Row]]]:
    """Propose masks for the readable images of a batch, and encode them in the background.

    Returns:
        The rows of each image, as futures.
    """
    if isinstance(source, MaskSource) and batch.prepared is not None:
        with waiting("resize"):
            prepared = batch.prepared.result()
        found = []
        for place, scores, parts in waiting_for(source.binary_masks(prepared), "device"):
            listed, image = batch.readable[place]
            encoded = [
                encoding.submit(mask_tensors.encode, part_qhw, weight=part_qhw.numel())
                for part_qhw in waiting_for(parts, "device")
            ]
            size = image.shape[:2]
            found.append(encoding.submit(_encoded, listed, size, encoded, scores, config, weight=1))
        return found
    with waiting("encode"):
        proposed = zip(batch.readable, source.propose(batch.readable), strict=True)
        return [
            encoding.submit(_rows, listed, image.shape[:2], proposals, config, weight=1)
            for (listed, image), proposals in proposed
        ]


def _encoded(
    listed: Mapping[str, Any],
    size: masks.Size,
    parts: Sequence[Future[list[bytes]]],
    scores: Sequence[float | None],
    config: ProposalsConfig,
) -> list[Row]:
    """Return the rows of an image whose masks were encoded in parts before this call."""
    counts = [one for part in parts for one in part.result()]
    return _rows(listed, size, EncodedProposals(counts, scores), config)


def _rows(
    listed: Mapping[str, Any],
    size: masks.Size,
    proposals: EncodedProposals,
    config: ProposalsConfig,
) -> list[Row]:
    """Return the rows of one image."""
    if not proposals.counts and not proposals.left_out:
        return [_no_proposal(listed, proposals.reason)]
    of_image = {"dataset": listed["dataset"], "image_id": listed["image_id"]}
    rows = (*_source_rows(proposals, size, config), *_left_out(proposals))
    return [{**of_image, **row} for row in rows]


def _source_rows(
    proposals: EncodedProposals, size: masks.Size, config: ProposalsConfig
) -> Iterator[Row]:
    """Yield the rows of an image's proposals with the ids and labels of their source."""
    for place, row in enumerate(proposal_rows(proposals.counts, proposals.scores, size, config)):
        yield {
            **row,
            "proposal_id": proposals.ids[place] if proposals.ids else place,
            "label": proposals.labels[place] if proposals.labels else None,
        }


def _left_out(proposals: EncodedProposals) -> Iterator[Row]:
    """Yield rows for masks that are not used; the mask itself is not stored."""
    for proposal_id, label in proposals.left_out:
        reason = {"kept": False, "drop_reason": "class_left_out"}
        yield {"proposal_id": proposal_id, "label": label, **reason}


def proposal_rows(
    counts: Sequence[bytes],
    scores: Sequence[float | None],
    size: masks.Size,
    config: ProposalsConfig,
) -> list[Row]:
    """Return the rows of one image's proposals, gated.

    Args:
        counts: Q masks.
        scores: Q scores; a mask without one passes the `min_score` gate and comes last in NMS.
        size: height and width of the masks.
        config: the gates.

    Returns:
        One row per proposal, in order, without the columns that name image and model.
    """
    areas, boxes = masks.areas_and_boxes(counts, size)
    fractions = areas / (size[0] * size[1])
    scores_q = np.asarray(scores, dtype=np.float64)
    single = gates.first(
        gates.empty_mask(areas),
        gates.below(scores_q, config.min_score, "low_score", missing_passes=True),
        gates.below(fractions, config.min_area_fraction, "small_area"),
    )
    overlapping = gates.overlap(
        counts,
        size,
        scores_q.tolist(),
        config.nms_iou,
        candidates=[reason is None for reason in single],
    )
    reasons = gates.first(single, overlapping)
    return [
        {
            "proposal_id": index,
            "mask_size": list(size),
            "mask_counts": counts[index],
            "bbox_xyxy": boxes[index].tolist(),
            "area_fraction": float(fractions[index]),
            "proposal_score": scores[index],
            "kept": reason is None,
            "drop_reason": reason,
        }
        for index, reason in enumerate(reasons)
    ]


def _no_proposal(image: Mapping[str, Any], reason: str) -> Row:
    return {
        "dataset": image["dataset"],
        "image_id": image["image_id"],
        "proposal_id": -1,
        "kept": False,
        "drop_reason": reason,
    }


def _kind(row: Row) -> str:
    """Return a drop reason without its details."""
    return str(row["drop_reason"]).partition(":")[0]


def _stats(rows: Sequence[Row]) -> dict[str, Any]:
    dropped = Counter(_kind(row) for row in rows if not row["kept"])
    proposals = [row for row in rows if row["proposal_id"] >= 0]
    return {
        "images": len({row["image_id"] for row in rows}),
        "proposals": len(proposals),
        "kept": sum(row["kept"] for row in proposals),
        "dropped": dict(sorted(dropped.items())),
    }
