"""The proposals stage: masks proposed for every image, as run-length encodings.

    proposals = run_stage(
        PROPOSALS, ProposalsConfig(image_root=...), {"images": images}, Path("runs/mine")
    )

Where they come from is a name in `ovseg.mining.proposal_sources.SOURCES`. Every mask (of a network
every query) is a row, kept or not: the gates are off by default, as the paper has none, and an
empty mask says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.config import ProposalsConfig
from ovseg.data import masks
from ovseg.data.images import ImageArray, ImageError
from ovseg.data.listed import ListedImages
from ovseg.mining import gates
from ovseg.mining.proposal_sources import ProposalSource, proposal_source
from ovseg.schema import PROPOSALS as SCHEMA
from ovseg.schema import rows_to_table
from ovseg.stages import Inputs, Output, Progress, Stage
from ovseg.storage import write_parquet

Row = dict[str, Any]


class ProposalsStage(Stage[ProposalsConfig]):
    """Asks the proposal source for the masks of the images of a shard."""

    name = "proposals"
    code = (
        "ovseg.data.images",
        "ovseg.data.listed",
        "ovseg.data.masks",
        "ovseg.mining.gates",
        "ovseg.mining.proposal_sources",
        "ovseg.models.class_embedding",
        "ovseg.models.resnet",  # a backbone of it
        "ovseg.models.deep_stem_maskformer",
        "ovseg.models.maskformer",
        "ovseg.models.names",
        "ovseg.models.pixels",
        "ovseg.models.proposal_networks",
        __name__,
    )

    def weights(self, config: ProposalsConfig, inputs: Inputs) -> dict[str, str]:
        """Of all that the proposal source reads beside the images."""
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
            config.image_root, setting="proposals.image_root", workers=config.decode_workers
        )
        rows = [_no_proposal(image, "image_dropped") for image in listed if not image["kept"]]
        progress(len(rows))
        kept = [image for image in listed if image["kept"]]
        for batch in _batches(reader.read(kept), config.batch_size):
            rows += _propose(batch, source, config)
            progress(len(batch))
        for row in rows:
            row["proposal_model"] = source.label
        rows.sort(key=lambda row: (row["image_id"], row["proposal_id"]))
        write_parquet(rows_to_table(rows, SCHEMA), target)
        return Output(rows=len(rows), stats={**reader.stats(), **_stats(rows)})


PROPOSALS = ProposalsStage()

Read = tuple[Mapping[str, Any], ImageArray | ImageError]


def _batches(read: Iterable[Read], size: int) -> Iterator[list[Read]]:
    batch: list[Read] = []
    for one in read:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _propose(
    batch: Sequence[Read], source: ProposalSource, config: ProposalsConfig
) -> Iterator[Row]:
    """The rows of a batch of images, readable or not."""
    readable: list[tuple[Mapping[str, Any], ImageArray]] = []
    for listed, image in batch:
        if isinstance(image, ImageError):
            yield _no_proposal(listed, image.reason)
        else:
            readable.append((listed, image))
    for (listed, image), found in zip(readable, source.propose(readable), strict=True):
        if not found.counts:
            yield _no_proposal(listed, "no_query")
        for row in proposal_rows(found.counts, found.scores, image.shape[:2], config):
            yield {"dataset": listed["dataset"], "image_id": listed["image_id"], **row}


def proposal_rows(
    counts: Sequence[bytes], scores: Sequence[float], size: masks.Size, config: ProposalsConfig
) -> list[Row]:
    """The rows of one image's proposals, gated.

    Args:
        counts: Q masks.
        scores: Q scores.
        size: height and width of the masks.
        config: the gates.

    Returns:
        One row a proposal, in order, without the columns that name image and model.
    """
    areas = masks.areas(counts, size)
    fractions = areas / (size[0] * size[1])
    single = gates.first(
        gates.empty_mask(areas),
        gates.below(scores, config.min_score, "low_score"),
        gates.below(fractions, config.min_area_fraction, "small_area"),
    )
    overlapping = gates.overlap(
        counts, size, scores, config.nms_iou, candidates=[reason is None for reason in single]
    )
    reasons = gates.first(single, overlapping)
    boxes = masks.boxes(counts, size)
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


def _stats(rows: Sequence[Row]) -> dict[str, Any]:
    dropped = Counter(row["drop_reason"] for row in rows if not row["kept"])
    proposals = [row for row in rows if row["proposal_id"] >= 0]
    return {
        "images": len({row["image_id"] for row in rows}),
        "proposals": len(proposals),
        "kept": sum(row["kept"] for row in proposals),
        "dropped": dict(sorted(dropped.items())),
    }
