"""Mining end to end: images per second, encoded behind the network and in its way, and the waits.

    python -m bench mining

Proposals and pairs of 48 noisy scenes of the storybook as JPEGs of 480 x 640, by its compact
models. Before: images decoded in place, masks encoded before the network goes on. After: one
process decodes ahead, one thread encodes behind.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import NounsConfig, PairingConfig, ProposalsConfig, TextsConfig
from ovseg.data.listing import LIST_IMAGES
from ovseg.mining.nouns.embeddings import TEXTS
from ovseg.mining.nouns.stage import NOUNS
from ovseg.mining.pairs.stage import PAIRS
from ovseg.mining.proposals import stage as proposals_stage
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.models.devices import resolve_device
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage
from ovseg.stages.stopwatch import in_words
from ovseg.storybook.captions import describe
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds

IMAGES, ROUNDS = 48, 2
WAYS = {"before": (0, 0), "after": (1, proposals_stage.PIXELS_AHEAD)}
"""Processes that decode, and pixels that may wait to be encoded."""


def main() -> list[dict[str, Any]]:
    """Print images per second of both stages both ways and what they waited for."""
    device = resolve_device("auto")
    images = IMAGES * (8 if device.startswith("cuda") else 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = _listed(folder, images)
        runs: dict[tuple[str, str], list[Manifest]] = {}
        _mined(folder, parts, device, "after", folder / "warm-up")
        computed = dict.fromkeys(WAYS, 0.0)  # processor seconds of the shards' own thread
        for number in range(ROUNDS):
            for way in WAYS:
                computed[way] -= time.thread_time()
                mined = _mined(folder, parts, device, way, folder / f"{way}-{number}")
                computed[way] += time.thread_time()
                for stage, manifest in mined.items():
                    runs.setdefault((stage, way), []).append(manifest)
        figures = [_figure(stage, images, runs) for stage in ("proposals", "pairs")]
        print(f"  processor time of the shards' own thread: {computed['before']:.1f} s before,"
              f" {computed['after']:.1f} s after")  # fmt: skip
        return figures


def _listed(folder: Path, images: int) -> dict[str, Manifest]:
    """Draw the images and list them, with their nouns."""
    noise, notes = np.random.default_rng(0), []
    for number, seed in enumerate(scene_seeds("mining", images)):
        scene = draw_scene(seed)
        pixels = np.array(Image.fromarray(scene.image).resize((640, 480))).astype(np.int16)
        pixels += noise.integers(-9, 10, pixels.shape, dtype=np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")
        notes += [{"file_name": f"{number}.jpg", "caption": text} for text in describe(scene)]
    captions = folder / "captions.jsonl"
    captions.write_text("\n".join(json.dumps(note) for note in notes))
    listing = ImagesConfig(captions=captions, image_root=folder, shard_size=24, min_shards=1)
    listed = run_stage(LIST_IMAGES, listing, {}, folder / "listed")
    nouns = run_stage(NOUNS, NounsConfig(), {"images": listed}, folder / "listed")
    return {"images": listed, "nouns": nouns}


def _mined(
    folder: Path, parts: dict[str, Manifest], device: str, way: str, root: Path
) -> dict[str, Manifest]:
    workers, ahead = WAYS[way]
    reading: dict[str, Any] = {"image_root": folder, "device": device, "decode_workers": workers}
    before, proposals_stage.PIXELS_AHEAD = proposals_stage.PIXELS_AHEAD, ahead
    try:
        proposals = run_stage(
            PROPOSALS, ProposalsConfig(short_side=160, **reading), {"images": parts["images"]}, root
        )
    finally:
        proposals_stage.PIXELS_AHEAD = before
    texts = run_stage(TEXTS, TextsConfig(device=device), {"nouns": parts["nouns"]}, root)
    inputs = {**parts, "proposals": proposals, "texts": texts}
    return {
        "proposals": proposals,
        "pairs": run_stage(PAIRS, PairingConfig(**reading), inputs, root),
    }


def _figure(stage: str, images: int, runs: dict[tuple[str, str], list[Manifest]]) -> dict[str, Any]:
    rates = {}
    for way in WAYS:
        manifests = runs[stage, way]
        assert {m.content_digest for m in manifests} == {runs[stage, "before"][0].content_digest}
        facts = [json.loads((m.folder / "run.json").read_text()) for m in manifests]
        seconds = [sum(fact["seconds"].values()) for fact in facts]
        fastest = min(range(len(facts)), key=seconds.__getitem__)
        rates[way] = images / seconds[fastest]
        waits = in_words(facts[fastest]["waits"], seconds[fastest])
        print(f"  {stage:9s} {way:6s} {rates[way]:7.1f} images/s   {waits}")
    ratio = rates["after"] / rates["before"]
    print(f"  {stage:9s} {ratio:.2f} x, the same tables")
    return {
        "what": f"{stage} of {images} JPEGs of 480 x 640, decoded ahead and encoded behind",
        **rates,
        "unit": "images/s",
        "ratio": ratio,
        "kind": "byte-equal",
    }
