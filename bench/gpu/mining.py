"""Mining end to end on generated JPEGs: the stages of proposals and pairs, from files to tables.

Measured with networks of random weights, saved to a folder, and with the storybook's. Masks of
random weights are ragged, and coding them takes longer than trained ones; smooth images decode
faster than photographs.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.gpu import made
from bench.gpu.results import Part, Values
from bench.gpu.sizes import Sizes


def measure(part: Part, sizes: Sizes) -> None:
    """Measure images/s of both stages, with both kinds of networks."""
    from ovseg.config.data import ImagesConfig
    from ovseg.config.mining import NounsConfig
    from ovseg.data.listing import LIST_IMAGES
    from ovseg.mining.nouns.stage import NOUNS
    from ovseg.stages.run import run_stage

    with tempfile.TemporaryDirectory(prefix="ovseg-") as name:
        folder = Path(name)
        made.write_jpegs(folder, sizes.mined)
        captions = folder / "captions.jsonl"
        notes = []
        for number in range(sizes.mined):
            nouns = [made.NOUNS[(7 * number + k) % len(made.NOUNS)] for k in range(5)]
            text = f"A {nouns[0]} and a {nouns[1]} near a {nouns[2]}, a {nouns[3]}, a {nouns[4]}."
            notes.append(json.dumps({"file_name": f"{number}.jpg", "caption": text}))
        captions.write_text("\n".join(notes), encoding="utf-8")
        listing = ImagesConfig(
            captions=captions, image_root=folder, shard_size=sizes.mined, min_shards=1
        )
        listed = run_stage(LIST_IMAGES, listing, {}, folder / "listed")
        nouns = run_stage(NOUNS, NounsConfig(), {"images": listed}, folder / "listed")
        parts = {"images": listed, "nouns": nouns}
        part.measure(
            "storybook's networks, at 160 pixels",
            lambda: _mined(part, folder, parts, short_side=160),
        )
        part.measure(
            f"MaskFormer and {sizes.naming} of random weights, bf16",
            lambda: _mined(part, folder, parts, **_saved(sizes, folder), precision="bf16"),
        )


def _saved(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Save both networks, and return their names and the size of images."""
    from ovseg.models.clip.save import save_clip
    from ovseg.models.maskformer.load import save_maskformer
    from ovseg.models.preprocessing import InputSettings

    save_clip(made.clip(sizes, sizes.naming, "cpu"), folder / "clip")
    short = min(sizes.image)
    save_maskformer(
        made.network(sizes),
        folder / "maskformer",
        inputs=InputSettings(short_side=short),
        class_names=made.NOUNS,
        text_embeddings=torch.randn(len(made.NOUNS), sizes.maskformer.embedding_dim),
    )
    return {
        "clip": str(folder / "clip"),
        "maskformer": str(folder / "maskformer"),
        "short_side": short,
    }


def _mined(
    part: Part,
    folder: Path,
    parts: dict[str, Any],
    *,
    short_side: int,
    clip: str = "storybook",
    maskformer: str = "storybook",
    precision: str = "fp32",
) -> Values:
    """Run both stages twice, the first time to load and warm up, and read what they say."""
    from ovseg.config.mining import PairingConfig, ProposalsConfig, TextsConfig
    from ovseg.mining.nouns.embeddings import TEXTS
    from ovseg.mining.pairs.stage import PAIRS
    from ovseg.mining.proposals.stage import PROPOSALS
    from ovseg.stages.run import run_stage

    how: dict[str, Any] = {"device": part.device, "precision": precision}
    how |= {"image_root": folder, "decode_workers": 2 if part.on_gpu else 0}
    values: Values = {"images": parts["images"].rows}
    for run in ("warm-up", "timed"):
        root = folder / f"{run}-{maskformer.rpartition('/')[2]}"
        proposals = run_stage(
            PROPOSALS,
            ProposalsConfig(maskformer=maskformer, short_side=short_side, **how),
            {"images": parts["images"]},
            root,
        )
        texts = run_stage(
            TEXTS, TextsConfig(clip=clip, device=part.device), {"nouns": parts["nouns"]}, root
        )
        inputs = {**parts, "proposals": proposals, "texts": texts}
        pairs = run_stage(PAIRS, PairingConfig(clip=clip, **how), inputs, root)
    total = 0.0
    for stage, manifest in {"proposals": proposals, "pairs": pairs}.items():
        facts = json.loads((manifest.folder / "run.json").read_text(encoding="utf-8"))
        seconds = sum(facts["seconds"].values())
        total += seconds
        values[stage] = {
            "images/s": parts["images"].rows / max(seconds, 1e-3),
            "waits": facts.get("waits"),  # seconds by what was waited for, if it is recorded
            "rows": manifest.rows,
            "dropped": manifest.stats.get("dropped"),
        }
    return {**values, "images/s": parts["images"].rows / max(total, 1e-3)}
