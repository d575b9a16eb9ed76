"""The stage that embeds the regions of curated pairs as a benchmark embeds its proposals.

    memory = run_stage(
        REGION_MEMORY, MemoryConfig(), {"curated": curated, "table": pairs}, Path("runs/x")
    )

It is a parent of a benchmark with `retrieval_weight` above 0.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from ovseg.config.scoring import MemoryConfig
from ovseg.data import mask_tensors, masks
from ovseg.data.images import ImageError, read_image
from ovseg.models.clip.load import clip_digest
from ovseg.models.devices import clip_name, resolve_device
from ovseg.models.regions.embedders import embedder_weights, region_embedder
from ovseg.models.regions.memory import RegionMemory
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import too_many_bad
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.training.clip.pairs import read_pairs


class RegionMemoryStage(Stage[MemoryConfig]):
    """Publishes a folder with the embeddings of the pairs' regions, and their nouns.

    Inputs: `curated`, the `table` it was selected from (`table/...` for further ones) and, to embed
    with an adapted CLIP, `checkpoint`.
    """

    name = "region-memory"
    suffix = ""

    def plan(self, config: MemoryConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        curated = inputs["curated"]
        return ShardPlan.single(curated.content_digest, curated.rows)

    def weights(self, config: MemoryConfig, inputs: Inputs) -> dict[str, str]:
        """Return the content digests of the embedding networks."""
        clip = clip_digest(clip_name(config.benchmark.clip, inputs))
        return {"clip": clip, **embedder_weights(config.benchmark)}

    def write(
        self, config: MemoryConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Embed the regions image by image; unreadable images are counted."""
        tables = [table for role, table in inputs.items() if role.startswith("table")]
        pairs = read_pairs(inputs["curated"], tables).sort_by(
            [("image_path", "ascending"), ("pair_id", "ascending"), ("noun", "ascending")]
        )
        setting = config.benchmark
        device = resolve_device(setting.device)
        embedder = region_embedder(setting, clip=clip_name(setting.clip, inputs), device=device)
        found: list[torch.Tensor] = []
        nouns: list[str] = []
        reasons: Counter[str] = Counter()
        for rows in _by_image(pairs):
            try:
                image = read_image(
                    (config.image_root or Path()) / rows[0]["image_path"],
                    sha256=rows[0]["image_sha256"],
                )
            except ImageError as error:
                reasons[error.reason] += len(rows)
                progress(len(rows))
                continue
            held = [row for row in rows if row["mask_counts"]]
            fitting = [row for row in held if row["mask_size"] == [*image.shape[:2]]]
            reasons["no_mask"] += len(rows) - len(held)
            reasons["mask_of_other_size"] += len(held) - len(fitting)
            size = (image.shape[0], image.shape[1])
            damaged = masks.broken([row["mask_counts"] for row in fitting], size)
            reasons["broken_mask"] += int(damaged.sum())
            fitting = [row for row, is_broken in zip(fitting, damaged) if not is_broken]
            if fitting:
                counts = [row["mask_counts"] for row in fitting]
                masks_qhw = mask_tensors.decode(counts, size, device)
                features, valid = embedder.embed(image, masks_qhw, threshold=None)
                found.append(features.cpu())
                nouns += [row["noun"] for row, is_valid in zip(fitting, valid) if is_valid]
                reasons["empty_mask"] += int((~valid).sum())
            progress(len(rows))
        bad = sum(reasons.values())
        if not found or bad > config.max_bad_fraction * len(pairs):
            why = f"{', '.join(sorted(+reasons))} (of images in {config.image_root})"
            raise too_many_bad("region-memory", "pairs", bad, len(pairs), config, why)
        distinct = sorted(set(nouns))
        number = {noun: index for index, noun in enumerate(distinct)}
        RegionMemory(
            regions_ne=torch.cat(found),
            nouns_n=torch.tensor([number[noun] for noun in nouns]),
            nouns=tuple(distinct),
        ).save(target)
        stats: dict[str, Any] = {
            "n": len(pairs),
            "bad": bad,
            "bad_reasons": dict(sorted((+reasons).items())),
            "regions": len(nouns),
            "nouns": len(distinct),
        }
        return Output(rows=len(nouns), stats=stats)


REGION_MEMORY = RegionMemoryStage()


def _by_image(pairs: pa.Table) -> list[list[dict[str, Any]]]:
    """Group the rows of a table ordered by image."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in pairs.to_pylist():
        groups.setdefault(row["image_path"], []).append(row)
    return [*groups.values()]
