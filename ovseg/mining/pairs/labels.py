"""Pairs of ground-truth masks and their labels: the paper's comparison with a closed vocabulary.

    truth = ProposalsConfig(source="ground_truth", labels=folder, image_root=...)
    proposals = run_stage(PROPOSALS, truth, {"images": images}, root)
    table = TableConfig(dataset="coco", source="gt_label")
    pairs = run_stage(LABEL_PAIRS, table, {"images": images, "proposals": proposals}, root)

The noun of a pair is the name of the class, verbatim as a benchmark gives it to the text encoder,
so a class is trained and tested under the same text. No caption mentions it and no CLIP chose the
mask, so the columns about those are null. An image with unusable labels gets a row without a noun.
"""

from __future__ import annotations

from pathlib import Path

from ovseg.config.mining import TableConfig
from ovseg.errors import OvsegError
from ovseg.files.parquet_files import write_parquet
from ovseg.mining.pairs.rows import OF_IMAGE, Row, complete, pair_stats
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.schema import PAIRS as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage

_OF_MASK = ("mask_size", "mask_counts", "bbox_xyxy", "area_fraction", "proposal_model")


class LabelPairsStage(Stage[TableConfig]):
    """Makes a pair of every ground-truth mask in a shard, and a row of every unusable mask."""

    name = "pairs"

    def plan(self, config: TableConfig, inputs: Inputs) -> ShardPlan:
        """Return the shards of the images.

        Raises:
            OvsegError: if the proposals are of other images or not ground truth, or the table has
                another source.
        """
        plan, proposals = inputs["images"].plan, inputs["proposals"]
        if proposals.plan != plan:
            raise OvsegError(
                "proposals belong to other images: run the proposals stage on these again"
            )
        if proposals.config["source"] != "ground_truth":
            raise OvsegError(
                f"proposals from {proposals.config['source']!r} have no labels: set"
                " mining.proposals.source to ground_truth"
            )
        if config.source != "gt_label":
            raise OvsegError(f"pairs of masks and labels are gt_label pairs, not {config.source}")
        return plan

    def write(
        self, config: TableConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Write the pairs of one shard."""
        images = {row["image_id"]: row for row in inputs["images"].shard_table(shard).to_pylist()}
        proposals = inputs["proposals"].shard_table(shard).to_pylist()
        of_shard = {
            "source": config.source,
            "dataset": config.dataset,
            "round": config.round,
            "config_digest": config.digest(),
            "shard": shard,
        }
        rows = complete((_row(images[each["image_id"]], each) for each in proposals), of_shard)
        write_parquet(rows_to_table(rows, SCHEMA), target)
        progress(len(images))
        without = sum(row["noun"] is None for row in rows)
        stats = pair_stats(rows, images=len(images), without_nouns=without)
        return Output(rows=len(rows), stats=stats)


LABEL_PAIRS = LabelPairsStage()


def _row(image: Row, proposal: Row) -> Row:
    return {
        **{column: image[column] for column in OF_IMAGE},
        "noun": proposal["label"],
        **{column: proposal[column] for column in _OF_MASK},
        "kept": proposal["kept"],
        "drop_reason": proposal["drop_reason"],
    }
