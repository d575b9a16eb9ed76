"""The texts stage: the CLIP embedding of every distinct noun, computed once per noun and model.

    texts = run_stage(TEXTS, TextsConfig(), {"nouns": nouns}, Path("runs/mine"))

For a later mining round, also pass the adapted CLIP: `{"nouns": nouns, "checkpoint": adapted}`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from ovseg.config.mining import TextsConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.models.clip.load import clip_digest, shared_clip
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.devices import clip_name, model_label, resolve_device
from ovseg.models.texts.templates import fill_templates
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import TEXTS as SCHEMA
from ovseg.stages.stage import Inputs, Output, Progress, Stage


def clip_label(configured: str, inputs: Inputs) -> str:
    """Return the name of the CLIP in tables."""
    digest = clip_digest(clip_name(configured, inputs))
    return model_label("checkpoint" if "checkpoint" in inputs else configured, digest)


class TextsStage(Stage[TextsConfig]):
    """Embeds the distinct kept nouns of all shards as one shard sorted by noun."""

    name = "texts"

    def plan(self, config: TextsConfig, inputs: Inputs) -> ShardPlan:
        """Return a single shard."""
        nouns = kept_nouns(inputs["nouns"])
        return ShardPlan.single(digest_json(nouns), len(nouns))

    def weights(self, config: TextsConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digest of CLIP."""
        return {"clip": clip_digest(clip_name(config.clip, inputs))}

    def write(
        self, config: TextsConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Embed the nouns."""
        nouns = kept_nouns(inputs["nouns"])
        texts = [prompt for (prompt,) in fill_templates(nouns, [config.template])]
        clip = shared_clip(clip_name(config.clip, inputs), device=resolve_device(config.device))
        embeddings = embed_texts(clip, texts, batch_size=config.batch_size, progress=progress)
        lists = pa.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings.shape[1])
        label = clip_label(config.clip, inputs)
        columns = [nouns, texts, [label] * len(nouns), lists.cast(SCHEMA.field("embedding").type)]
        write_parquet(pa.table(columns, schema=SCHEMA), target)
        return Output(rows=len(nouns), stats={"nouns": len(nouns)})


TEXTS = TextsStage()


def kept_nouns(nouns: Manifest) -> list[str]:
    """Return the kept nouns of a nouns manifest, sorted."""
    names: set[str] = set()
    for shard in range(len(nouns.shards)):
        table = nouns.shard_table(shard, ["noun", "kept"])
        names.update(pc.unique(table.filter(table["kept"])["noun"]).to_pylist())
    return sorted(names)


@torch.inference_mode()
def embed_texts(
    clip: OpenClipModel, texts: list[str], *, batch_size: int, progress: Progress
) -> NDArray[np.float32]:
    """Embed texts in batches as `(T, E)` float32 rows of L2 norm 1.

    Raises:
        OvsegError: if CLIP returns non-finite numbers.
    """
    parts = [np.zeros((0, clip.embed_dim), dtype=np.float32)]
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        parts.append(clip.encode_texts(batch).float().cpu().numpy())
        progress(len(batch))
    embeddings = np.concatenate(parts)
    if not np.isfinite(embeddings).all():
        raise OvsegError("CLIP returns non-finite text embeddings: its weights are damaged")
    return embeddings


def read_texts(texts: Manifest) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Read a texts manifest: row numbers by noun, and the `(T, E)` float32 embeddings."""
    table = texts.table(["noun", "embedding"]).combine_chunks()
    rows = {noun: row for row, noun in enumerate(table["noun"].to_pylist())}
    values = table["embedding"].combine_chunks().flatten().to_numpy()
    return rows, values.reshape(len(rows), -1) if rows else np.zeros((0, 1), dtype=np.float32)
