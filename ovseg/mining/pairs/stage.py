"""The pairs stage: pair every noun of an image with the proposal closest to it in CLIP's space.

    parts = {"images": images, "nouns": nouns, "proposals": proposals, "texts": texts}
    pairs = run_stage(PAIRS, PairingConfig(image_root=...), parts, Path("runs/mine"))

CLIP sees a proposal as in the paper (OVSeg, CVPR 2023, section 3.2): cropped to its box and blanked
outside its mask, unless `embedder` names a way to embed all of an image's proposals in one pass. A
later mining round passes the adapted CLIP as `checkpoint` to this stage and to
the texts stage. Every kept noun of an image is a row, paired or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovseg.config.mining import PairingConfig
from ovseg.data.image_reader import ListedImages
from ovseg.data.images import ImageError
from ovseg.errors import OvsegError
from ovseg.files.parquet_files import write_parquet
from ovseg.mining import gates
from ovseg.mining.nouns.embeddings import clip_label, read_texts
from ovseg.mining.pairs.embedding import embed_images, embed_proposals
from ovseg.mining.pairs.ranking import rank
from ovseg.mining.pairs.rows import OF_IMAGE, Job, Row, complete, pair_stats, shard_jobs
from ovseg.models.clip.load import clip_digest, shared_clip
from ovseg.models.devices import clip_name, resolve_device
from ovseg.models.regions.embedders import region_embedder
from ovseg.stages import stopwatch
from ovseg.stages.device_turns import device_is_free
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.schema import PAIRS as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage

_OF_PROPOSAL = (
    "proposal_id",
    "mask_size",
    "mask_counts",
    "bbox_xyxy",
    "area_fraction",
    "proposal_score",
    "proposal_model",
)


class PairsStage(Stage[PairingConfig]):
    """Pairs the nouns and proposals of a shard of images."""

    name = "pairs"

    def plan(self, config: PairingConfig, inputs: Inputs) -> ShardPlan:
        """Return the shards of the images.

        Raises:
            OvsegError: if nouns or proposals are of other images, or texts of other nouns, another
                CLIP or another template.
        """
        plan = inputs["images"].plan
        for role in ("nouns", "proposals"):
            if inputs[role].plan != plan:
                raise OvsegError(f"{role} belong to other images: mine them from these again")
        texts = inputs["texts"]
        if texts.parents["nouns"] != inputs["nouns"].content_digest:
            raise OvsegError("texts belong to other nouns: run the texts stage on these again")
        if texts.weights["clip"] != self.weights(config, inputs)["clip"]:
            raise OvsegError("texts were embedded by another CLIP: give both stages the same one")
        if texts.config["template"] != config.template:
            raise OvsegError(
                f"texts were embedded as {texts.config['template']!r}, not as {config.template!r}:"
                " give both stages the same template"
            )
        return plan

    def weights(self, config: PairingConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digest of CLIP."""
        return {"clip": clip_digest(clip_name(config.clip, inputs))}

    def write(
        self, config: PairingConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Pair the images of one shard."""
        jobs = shard_jobs(inputs, shard)
        device = resolve_device(config.device)
        clip = clip_name(config.clip, inputs)
        text_rows, text_embeddings = read_texts(inputs["texts"])
        reader = ListedImages(
            config.image_root, setting="data.images", workers=config.decode_workers
        )
        pairable = [job for job in jobs if job.nouns and job.proposals]
        rows = [row for job in jobs if not job.proposals for row in _unpaired(job)]
        progress(len(jobs) - len(pairable))
        read = ((job, image) for job, (_, image) in _zip_read(reader, pairable))
        if config.embedder == "crops":
            model = shared_clip(clip, device=device)
            embedded = embed_proposals(read, model, config, device=device)
        else:
            embedder = region_embedder(config, clip=clip, device=device)
            embedded = embed_images(read, embedder, config, device=device)
        for job, embeddings in stopwatch.waiting_for(embedded, "crop"):
            if isinstance(embeddings, ImageError):
                rows += _unpaired(job, embeddings.reason)
            elif not job.proposals:
                rows += _unpaired(job)
            else:
                texts = text_embeddings[[text_rows[noun["noun"]] for noun in job.nouns]]
                rows += pair_image(job, texts, embeddings, config)
            progress(1)
        of_shard = {
            "source": config.source,
            "dataset": config.dataset,
            "round": config.round,
            "clip_model": clip_label(config.clip, inputs),
            "config_digest": config.digest(),
            "shard": shard,
        }
        device_is_free()
        rows = complete(rows, of_shard)
        with stopwatch.waiting("write"):
            write_parquet(rows_to_table(rows, SCHEMA), target)
        without_nouns = sum(not job.nouns for job in jobs)
        stats = pair_stats(rows, images=len(jobs), without_nouns=without_nouns)
        return Output(rows=len(rows), stats={**reader.stats(), **stats})


PAIRS = PairsStage()


def _zip_read(reader: ListedImages, jobs: list[Job]) -> Iterator[tuple[Job, tuple[Any, Any]]]:
    return zip(jobs, reader.read([job.listed for job in jobs]), strict=True)


def pair_image(
    job: Job,
    text_embeddings: NDArray[np.float32],
    region_embeddings: NDArray[np.float32],
    config: PairingConfig,
) -> list[Row]:
    """Give each noun of an image its best proposal, then gate the pairs.

    Args:
        job: N nouns and Q >= 1 proposals, the proposals in order of their ids.
        text_embeddings: `(N, E)` rows of L2 norm 1.
        region_embeddings: `(Q, E)` rows of L2 norm 1.
        config: the gates.

    Returns:
        N rows, without the columns that are constant in the shard.
    """
    ranking = rank(text_embeddings @ region_embeddings.T)
    proposals = [job.proposals[index] for index in ranking.best]
    reasons = gates.first(
        gates.below(ranking.similarity, config.min_similarity, "low_similarity"),
        gates.below(ranking.margin, config.min_margin, "low_margin", missing_passes=True),
        gates.below(
            [proposal["proposal_score"] for proposal in proposals],
            config.min_proposal_score,
            "low_proposal_score",
        ),
        gates.below(
            [proposal["area_fraction"] for proposal in proposals],
            config.min_area_fraction,
            "small_area",
        ),
        gates.mutual_best((ranking.noun_rank == 1).tolist(), config.mutual_best),
    )
    margins = [None if np.isnan(margin) else float(margin) for margin in ranking.margin]
    return [
        {
            **{column: job.listed[column] for column in OF_IMAGE},
            **noun,
            **{column: proposals[index][column] for column in _OF_PROPOSAL},
            "clip_similarity": float(ranking.similarity[index]),
            "clip_margin": margins[index],
            "noun_rank": int(ranking.noun_rank[index]),
            "proposal_rank": 1,
            "mutual_best": bool(ranking.noun_rank[index] == 1),
            "kept": reasons[index] is None,
            "drop_reason": reasons[index],
        }
        for index, noun in enumerate(job.nouns)
    ]


def _unpaired(job: Job, reason: str | None = None) -> list[Row]:
    """Return the rows of nouns for which no proposal can be chosen."""
    reason = reason or job.reason or ("no_proposal" if job.listed["kept"] else "image_dropped")
    of_image = {column: job.listed[column] for column in OF_IMAGE}
    return [{**of_image, **noun, "kept": False, "drop_reason": reason} for noun in job.nouns]
