"""The proposals stage: the masks a MaskFormer proposes for every image, as run-length encodings.

    proposals = run_stage(
        PROPOSALS, ProposalsConfig(image_root=...), {"images": images}, Path("runs/mine")
    )

Every query of the network is a row, kept or not: the gates are off by default, as the paper has
none, and an empty mask says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.config import ProposalsConfig
from ovseg.data.images import ImageArray, ImageError
from ovseg.data.listed import ListedImages
from ovseg.mining import gates, masks
from ovseg.models.maskformer import ProposalNetwork, load_maskformer, maskformer_digest
from ovseg.models.names import model_label, resolve_device
from ovseg.models.pixels import resized_shape
from ovseg.schema import PROPOSALS as SCHEMA
from ovseg.schema import rows_to_table
from ovseg.stages import Inputs, Output, Progress, Stage
from ovseg.storage import write_parquet

Row = dict[str, Any]
QUERIES_AT_ONCE = 16  # enlarged to an image's own size; a photograph of 12 MP takes 50 MB a query


class ProposalsStage(Stage[ProposalsConfig]):
    """Runs the proposal network over the images of a shard."""

    name = "proposals"
    code = (
        "ovseg.data.images",
        "ovseg.data.listed",
        "ovseg.mining.gates",
        "ovseg.mining.masks",
        "ovseg.models.class_embedding",
        "ovseg.models.maskformer",
        "ovseg.models.names",
        "ovseg.models.pixels",
        "ovseg.models.proposal_networks",
        __name__,
    )

    def weights(self, config: ProposalsConfig, inputs: Inputs) -> dict[str, str]:
        """The proposal network's."""
        return {"maskformer": maskformer_digest(config.maskformer)}

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
        network = load_maskformer(config.maskformer, resolve_device(config.device))
        label = model_label(config.maskformer, network.digest)
        listed = inputs["images"].shard_table(shard).to_pylist()
        reader = ListedImages(
            config.image_root, setting="proposals.image_root", workers=config.decode_workers
        )
        rows = [_no_proposal(image, "image_dropped") for image in listed if not image["kept"]]
        progress(len(rows))
        kept = [image for image in listed if image["kept"]]
        for batch in _batches(reader.read(kept), config.batch_size):
            rows += _propose(batch, network, config)
            progress(len(batch))
        for row in rows:
            row["proposal_model"] = label
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
    batch: Sequence[Read], network: ProposalNetwork, config: ProposalsConfig
) -> Iterator[Row]:
    """The rows of a batch of images, readable or not."""
    readable: list[tuple[Mapping[str, Any], ImageArray]] = []
    for listed, image in batch:
        if isinstance(image, ImageError):
            yield _no_proposal(listed, image.reason)
        else:
            readable.append((listed, image))
    found = propose_masks(network, [image for _, image in readable], config)
    for (listed, _), (counts, scores, size) in zip(readable, found, strict=True):
        if not counts:
            yield _no_proposal(listed, "no_query")
        for row in proposal_rows(counts, scores, size, config):
            yield {"dataset": listed["dataset"], "image_id": listed["image_id"], **row}


def propose_masks(
    network: ProposalNetwork, images: Sequence[ImageArray], config: ProposalsConfig
) -> list[tuple[list[bytes], list[float], masks.Size]]:
    """Masks of images, binary at the images' own size.

    The network's soft masks are taken at the smaller of its input's and the image's own size, so
    that memory does not grow with a photograph's; the smaller is enlarged bilinearly.

    Args:
        network: the proposal network.
        images: (H_i, W_i, 3) uint8 RGB.
        config: input sizes and mask threshold.

    Returns:
        For each image Q RLE strings, Q scores and the masks' (H_i, W_i).
    """
    short_side, max_side = config.short_side, config.max_side
    found: list[tuple[list[bytes], list[float], masks.Size]] = [([], [], (0, 0))] * len(images)
    shrunk = []
    for image in images:
        height, width = image.shape[:2]
        input_height, input_width = resized_shape(height, width, short_side, max_side)
        shrunk.append(input_height * input_width < height * width)
    for small in (False, True):
        places = [place for place, is_small in enumerate(shrunk) if is_small == small]
        proposed = network.propose(
            [images[place] for place in places],
            output="resized" if small else "original",
            short_side=short_side,
            max_side=max_side,
        )
        for place, soft, scores in zip(
            places, proposed.mask_probabilities, proposed.scores, strict=True
        ):
            height, width = images[place].shape[:2]
            counts = _binary_counts(soft, (height, width), config.mask_threshold)
            found[place] = (counts, scores.float().cpu().tolist(), (height, width))
    return found


@torch.inference_mode()
def _binary_counts(soft_qhw: Tensor, size: masks.Size, threshold: float) -> list[bytes]:
    counts: list[bytes] = []
    for some in torch.split(soft_qhw, QUERIES_AT_ONCE):
        if some.shape[1:] != size:
            some = F.interpolate(some[None], size=size, mode="bilinear", align_corners=False)[0]
        counts += masks.encode((some > threshold).cpu().numpy())
    return counts


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
