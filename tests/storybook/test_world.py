"""The written world: COCO files that read back as the scenes they came from."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.errors import OvsegError
from ovseg.storybook.captions import describe
from ovseg.storybook.categories import CATEGORIES
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import SEED_RANGES, scene_seeds, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    calls: list[int] = []
    write_world(folder, part="val", n=6, size=96, seed=2, progress=calls.append)
    assert calls == [1] * 6
    return folder


def test_parts_are_disjoint() -> None:
    assert set(SEED_RANGES) == {"pretrain", "mining", "val"}
    for one, two in combinations(SEED_RANGES.values(), 2):
        assert one.stop <= two.start or two.stop <= one.start


def test_world_seed_moves_inside_the_part() -> None:
    first, second = scene_seeds("mining", 100), scene_seeds("mining", 100, seed=1)
    assert not set(first) & set(second)
    for seed in (first[0], first[-1], second[0], second[-1]):
        assert seed in SEED_RANGES["mining"]


def test_refuses_unknown_parts_and_too_many_scenes(tmp_path: Path) -> None:
    with pytest.raises(OvsegError, match="unknown: use one of pretrain, mining, val"):
        write_world(tmp_path, part="test", n=1)
    with pytest.raises(OvsegError, match="use smaller numbers"):
        scene_seeds("val", 10**8)
    with pytest.raises(OvsegError, match="use smaller numbers"):
        scene_seeds("val", 1, seed=10**6)


def test_captions_file(world: Path) -> None:
    data = json.loads((world / "annotations" / "captions.json").read_text())
    assert set(data) == {"info", "licenses", "images", "annotations"}
    seeds = list(scene_seeds("val", 6, seed=2))
    assert [image["id"] for image in data["images"]] == seeds
    assert len({a["id"] for a in data["annotations"]}) == 30
    for image in data["images"]:
        scene = draw_scene(image["id"], size=96)
        texts = [a["caption"] for a in data["annotations"] if a["image_id"] == image["id"]]
        assert tuple(texts) == describe(scene)
        with Image.open(world / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (96, 96)
            assert np.array_equal(np.asarray(picture), scene.image)


def test_panoptic_and_semantic_files(world: Path) -> None:
    data = json.loads((world / "annotations" / "panoptic.json").read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert names == {category.id: category.name for category in CATEGORIES}
    for category in data["categories"]:
        assert set(category) == {"id", "name", "isthing", "supercategory", "color"}
    assert len(data["annotations"]) == 6
    for annotation in data["annotations"]:
        scene = draw_scene(annotation["image_id"], size=96)
        with Image.open(world / "panoptic" / annotation["file_name"]) as picture:
            rgb = np.asarray(picture).astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        with Image.open(world / "semantic" / annotation["file_name"]) as picture:
            semantic = np.asarray(picture)
        assert semantic.dtype == np.uint8 and semantic.min() > 0
        infos = annotation["segments_info"]
        assert {info["id"] for info in infos} == set(np.unique(ids).tolist())
        assert len(infos) == len(scene.segments)
        for info, segment in zip(infos, scene.segments, strict=True):
            mask = ids == info["id"]
            assert np.array_equal(mask, segment.mask)
            assert info["area"] == mask.sum() and info["iscrowd"] == 0
            assert info["category_id"] == segment.category.id
            assert (semantic[mask] == segment.category.id).all()
            x, y, w, h = info["bbox"]
            assert mask[y : y + h, x : x + w].sum() == mask.sum()
            assert mask[y].any() and mask[:, x].any()
            assert mask[y + h - 1].any() and mask[:, x + w - 1].any()


def test_the_same_world_twice(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path, part="val", n=6, size=96, seed=2)
    files = sorted(path.relative_to(world) for path in world.rglob("*") if path.is_file())
    assert len(files) == 3 * 6 + 2
    for name in files:
        assert (world / name).read_bytes() == (tmp_path / name).read_bytes()
