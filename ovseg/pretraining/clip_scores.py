"""Scores of a CLIP on the storybook's ground-truth regions, before and after mask adaptation.

python -m ovseg.pretraining.clip_scores [CLIP] [SCENES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from ovseg.models.clip.load import load_model
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.regions.embedding import Cut, cut_regions, embed_regions
from ovseg.models.texts.templates import text_embeddings
from ovseg.storybook.captions import describe
from ovseg.storybook.categories import CATEGORIES, split
from ovseg.storybook.scenes import Scene, draw_scene
from ovseg.storybook.world import scene_seeds


def region_accuracy(clip: OpenClipModel, scenes: list[Scene], *, region: str) -> dict[str, float]:
    """Measure top-1 accuracy over all category names for crops of ground-truth regions.

    Args:
        clip: the model.
        scenes: the scenes whose segments are classified.
        region: how they are cropped, `mean` or `box`, or another name in
            `ovseg.models.regions.styles.REGIONS`.

    Returns:
        Fractions in 0..1: `seen`, `unseen` (of `categories.split(0)`), `all`, `things`, `stuff`,
        and `mean_class`, the mean of the per-category accuracies.
    """
    names = [category.name for category in CATEGORIES]
    texts = text_embeddings(clip, names, templates="vild")
    hits, labels = [], []
    with torch.no_grad():
        for scene in scenes:
            masks = torch.stack([torch.from_numpy(segment.mask) for segment in scene.segments])
            features, valid = embed_regions(
                clip,
                cut_regions(clip, scene.image, [masks], cut=Cut(region=region)),
                masked=region != "box",
            )
            label = torch.tensor([names.index(s.category.name) for s in scene.segments])[valid]
            hits.append((features @ texts.T).argmax(dim=1) == label)
            labels.append(label)
    return accuracy_parts(torch.cat(hits), torch.cat(labels))


def accuracy_parts(hits: Tensor, label: Tensor) -> dict[str, float]:
    """Compute the parts of `region_accuracy` from `(N,)` hits and `(N,)` true categories."""
    hit, names = hits.float(), [category.name for category in CATEGORIES]
    seen_names, _ = split(0)
    seen = torch.tensor([name in seen_names for name in names])[label]
    thing = torch.tensor([category.isthing for category in CATEGORIES])[label]
    per_class = [hit[label == index].mean() for index in sorted(set(label.tolist()))]
    return {
        "all": float(hit.mean()),
        "seen": float(hit[seen].mean()),
        "unseen": float(hit[~seen].mean()),
        "things": float(hit[thing].mean()),
        "stuff": float(hit[~thing].mean()),
        "mean_class": float(torch.stack(per_class).mean()),
    }


def retrieval(clip: OpenClipModel, scenes: list[Scene]) -> tuple[float, float]:
    """Measure recall at 1 among the scenes, image to caption and caption to image."""
    whole = torch.ones(1, *scenes[0].image.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        regions = [part for scene in scenes for part in cut_regions(clip, scene.image, [whole])]
        images, _ = embed_regions(clip, regions, batch_size=len(scenes), masked=False)
        texts = clip.encode_texts([describe(scene, n=1)[0] for scene in scenes])
    similarity = images @ texts.T
    right = torch.arange(len(scenes))
    to_text = (similarity.argmax(dim=1) == right).float().mean()
    to_image = (similarity.argmax(dim=0) == right).float().mean()
    return float(to_text), float(to_image)


def evaluate(folder: Path | str, *, scenes: int = 300) -> dict[str, float]:
    """Measure a saved CLIP on validation scenes.

    Args:
        folder: its folder, or any name that `load_clip` accepts.
        scenes: how many.

    Returns:
        `unmasked/...` and `masked/...` of `region_accuracy`, and both directions of `retrieval`.
    """
    clip = load_model(str(folder))
    validation = [draw_scene(seed) for seed in scene_seeds("val", scenes)]
    metrics = {}
    for part, region in (("unmasked", "box"), ("masked", "mean")):
        for name, value in region_accuracy(clip, validation, region=region).items():
            metrics[f"{part}/{name}"] = value
    to_text, to_image = retrieval(clip, validation)
    metrics["retrieval, caption for picture"] = to_text
    metrics["retrieval, picture for caption"] = to_image
    return metrics


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "storybook"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    for key, value in evaluate(name, scenes=count).items():
        print(f"{key}: {value:.4f}")
