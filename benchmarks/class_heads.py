"""Why the compact MaskFormers' own branch is of little use, and what of it is worth keeping.

python -m benchmarks class_heads

The class head saw some 36 texts in a space of 128 dimensions: what lies outside of their span was
never asked for and is arbitrary, and a text that reaches into it, of a class that was not trained
on, can win everywhere. So each branch is scored as it is and with the head's answers projected onto
the span of the texts it was trained with; behind it the most frequent label, in % of the pixels.
"""

import copy

import numpy as np
import torch

from ovseg.evaluation.metrics import Confusion, segmentation_scores
from ovseg.models.clip import shared_clip
from ovseg.models.maskformer import OpenMaskFormer, load_maskformer, storybook_weights
from ovseg.models.segmentor import Segmentor
from ovseg.storybook.catalogue import CATEGORIES
from ovseg.storybook.measure_maskformer import SIZE, UNLABELLED, validation_scenes
from ovseg.storybook.scenes import Scene

SPLITS = (0, 1, 2)
SCENES = 60
NAMES = [category.name for category in CATEGORIES]


def main() -> None:
    """Print mIoU in % of all and of unseen classes, and the most frequent label."""
    scenes = validation_scenes(SCENES)
    print(f"  {SCENES} validation scenes, original CLIP, mIoU all / unseen in %")
    for split in SPLITS:
        plain = load_maskformer(str(storybook_weights(split)))
        assert isinstance(plain, OpenMaskFormer)
        heads = {"as it is": plain, "projected": projected(plain)}
        print(f"  split {split}: CLIP alone {score(plain, scenes, 'clip_only')}")
        for title, network in heads.items():
            alone = score(network, scenes, "maskformer_only")
            print(f"    head {title:9s} alone {alone}   both {score(network, scenes, 'geometric')}")


@torch.no_grad()
def projected(network: OpenMaskFormer) -> OpenMaskFormer:
    """A copy whose class embeddings lie in the span of the texts it was trained with."""
    found = copy.deepcopy(network)
    basis = torch.linalg.svd(found.text_embeddings, full_matrices=False)[2]
    last = found.network.class_embed.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.copy_(basis.T @ basis @ last.weight)
    last.bias.copy_(basis.T @ basis @ last.bias)
    return found


def score(network: OpenMaskFormer, scenes: list[Scene], mode: str) -> str:
    """Mean IoU of all and of unseen classes in %, and the most frequent label."""
    segmentor = Segmentor(
        shared_clip("storybook"),
        network,
        class_names=NAMES,
        mode=mode,  # type: ignore[arg-type]
        short_side=SIZE,
        max_side=4 * SIZE,
    )
    confusion = Confusion(len(NAMES), UNLABELLED)
    frequent = np.zeros(len(NAMES) + 1, dtype=np.int64)
    for scene in scenes:
        truth = np.full(scene.image.shape[:2], UNLABELLED, dtype=np.uint16)
        for segment in scene.segments:
            truth[segment.mask] = segment.category.id - 1
        labels = segmentor.segment(scene.image).labels
        confusion.update(truth, labels)
        frequent += np.bincount(labels.ravel(), minlength=len(frequent))
    seen = [NAMES.index(name) for name in network.class_names]
    scores = segmentation_scores(confusion.class_counts(), seen=seen)
    parts = " / ".join(f"{100 * scores[f'miou_union{part}']:4.1f}" for part in ("", "_unseen"))
    most = int(frequent[:-1].argmax())
    return f"{parts} ({NAMES[most]} {100 * frequent[most] / frequent.sum():.0f} %)"


if __name__ == "__main__":
    main()
