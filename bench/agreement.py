"""Deviation of a device's results from the CPU's float32: embeddings, masks, label maps.

    python -m bench agreement

Runs the storybook's own models on its validation scenes, so that the differences are those of
trained weights. On a GPU, it compares float32 and bfloat16; without one, bfloat16 on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ovseg.models.clip.load import load_clip
from ovseg.models.devices import resolve_device
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.preprocessing import InputSize
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.segmentor import Segmentor
from ovseg.storybook.categories import CATEGORIES
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds

SCENES = 24


@contextmanager
def _precision(device: str, bf16: bool) -> Iterator[None]:
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
        yield


def main() -> None:
    """Print cosines of embeddings, differences of masks and the share of equal pixels."""
    device = resolve_device("auto")
    images = [draw_scene(seed).image for seed in scene_seeds("val", SCENES)]
    expected = _answers(images, "cpu", bf16=False)
    cases = [(device, False), (device, True)] if device != "cpu" else [("cpu", True)]
    for where, bf16 in cases:
        segmented = _answers(images, where, bf16=bf16)
        cosines, masks, equal, named = [], [], [], []
        for ours, theirs in zip(segmented, expected, strict=True):
            cosines.append((ours[0] * theirs[0]).sum(-1))
            masks.append((ours[1] - theirs[1]).abs().max())
            equal.append(np.mean(ours[2] == theirs[2]))
            named.append((ours[3] == theirs[3]).float())
        print(
            f"  {where} {'bf16' if bf16 else 'fp32'} against CPU fp32, {SCENES} scenes: cosine of"
            f" embeddings at least {torch.cat(cosines).min():.5f}; soft masks differ by at most"
            f" {torch.stack(masks).max():.5f}; same name for {100 * torch.cat(named).mean():.2f} %"
            f" of proposals; same class in {100 * np.mean(equal):.2f} % of pixels"
        )


def _answers(images: list[np.ndarray], device: str, *, bf16: bool) -> list[tuple]:
    """Return embeddings of fixed boxes, soft masks, the label map and the proposals' best names."""
    clip = load_clip("storybook", device=device)
    network = load_maskformer("storybook", device)
    names = [category.name for category in CATEGORIES]
    segmentor = Segmentor(clip, network, class_names=names, size=InputSize(short_side=160))
    embedder = CropEmbedder(clip)
    boxes = torch.zeros(4, *images[0].shape[:2], dtype=torch.bool, device=device)
    for index, (top, left) in enumerate(((0, 0), (0, 80), (80, 0), (40, 40))):
        boxes[index, top : top + 70, left : left + 70] = True
    rows = []
    for image in images:
        with _precision(device, bf16):
            features, _ = embedder.embed(image, boxes, threshold=None)
            proposed = segmentor.propose(image)
            segmented = segmentor.segment(image)
        best = proposed.class_probabilities.float().argmax(-1)
        rows.append(
            (features.float().cpu(), proposed.masks.float().cpu(), segmented.labels, best.cpu())
        )
    return rows
