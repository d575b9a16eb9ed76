"""Segmentors that share proposals and crops give the labels they give alone, for less work."""

import numpy as np
import pytest
import torch

from ovseg.config.segmenting import segmenting
from ovseg.models.build import load_segmentor
from ovseg.models.regions import embedding
from ovseg.models.reuse import reused, reusing
from ovseg.storybook.scenes import draw_scene

NAMES = ("house", "tree", "grass", "sky", "dog")


def test_the_last_result_is_kept_for_the_same_objects_alone():
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        return len(calls)

    image, equal = np.zeros(3), np.zeros(3)
    assert [reused("a", (image,), make) for _ in range(2)] == [1, 2]  # outside of the context
    with reusing():
        assert [reused("a", (image,), make) for _ in range(2)] == [3, 3]
        assert reused("a", (equal,), make) == 4  # equal is not the same
        assert reused("a", (image,), make) == 5  # only the last one is kept
        assert reused("b", (image,), make) == 6  # another setting
        assert reused("a", (image, image), make) == 7
    assert reused("a", (image,), make) == 8


@pytest.fixture
def segmentors():
    prompted = segmenting({"benchmarks.mask_prompts": False})
    return [load_segmentor(config, NAMES) for config in (segmenting({}), prompted)]


def test_shared_work_gives_the_labels_of_each_alone(segmentors, monkeypatch):
    scene = draw_scene(7)
    masks = torch.from_numpy(np.stack([segment.mask for segment in scene.segments]))
    alone = [
        (each.segment(scene.image).labels, each.classify_masks(scene.image, masks))
        for each in segmentors
    ]
    cuts: list[int] = []
    cut = embedding.region_crops
    monkeypatch.setattr(embedding, "region_crops", lambda *a, **k: cuts.append(1) or cut(*a, **k))
    with reusing():
        together = [
            (each.segment(scene.image).labels, each.classify_masks(scene.image, masks))
            for each in segmentors
        ]
    for (labels, named), (labels_alone, named_alone) in zip(together, alone, strict=True):
        assert np.array_equal(labels, labels_alone)
        assert np.array_equal(named, named_alone)
    assert len(cuts) == 2  # proposals and ground truth, once each
