"""Screening: what a benchmark holds, and what repeats another, is a row and never trained on."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ovseg.config.data import FingerprintsConfig, ImagesConfig, ScreeningConfig
from ovseg.data.duplicates import looking_alike, near, same_bytes
from ovseg.data.fingerprints import FINGERPRINTS, family, published_id
from ovseg.data.listing import LIST_IMAGES
from ovseg.data.screening import SCREEN_IMAGES
from ovseg.mining.gates import REASONS
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.schema import IMAGES as SCHEMA


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def write_captions(folder: Path, names: list[str]) -> None:
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    captions = [{"id": n, "image_id": n, "caption": "a dog"} for n in range(len(names))]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))


def prepared(folder: Path, images: dict[str, bytes]) -> Path:
    """A prepared benchmark of these images."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.txt").write_text("dog\n")
    for name, content in images.items():
        (folder / "images" / name).write_bytes(content)
        Image.new("L", (1, 1)).save(folder / "labels" / f"{Path(name).stem}.png")
    return folder


def listed(folder: Path, runs: Path) -> Manifest:
    setting = ImagesConfig(captions=folder / "captions.json", image_root=folder, shard_size=3)
    return run_stage(LIST_IMAGES, setting, {}, runs)


def prints(name: str, folder: Path, runs: Path) -> Manifest:
    return run_stage(FINGERPRINTS, FingerprintsConfig(benchmark=name, root=folder), {}, runs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    names = ["a.png", "b.png", "000000000139.jpg", "same.png", "alike.jpg", "2007_000033.png"]
    for seed, name in enumerate(names[:3]):
        picture(seed).save(folder / name)
    shutil.copy(folder / "a.png", folder / "same.png")
    picture(1).resize((80, 60)).save(folder / "alike.jpg", quality=60)
    picture(5).save(folder / "2007_000033.png")
    write_captions(folder, names)
    return folder


def reasons(manifest: Manifest) -> list[str | None]:
    rows = manifest.table().to_pylist()
    assert all(row["kept"] == (row["drop_reason"] is None) for row in rows)
    assert {row["drop_reason"].partition(":")[0] for row in rows if not row["kept"]} <= set(REASONS)
    return [row["drop_reason"] for row in rows]


def test_repeats_are_dropped(source: Path, tmp_path: Path):
    images = listed(source, tmp_path)
    screened = run_stage(SCREEN_IMAGES, ScreeningConfig(), {"images_listed": images}, tmp_path)
    assert reasons(screened) == [None, None, None, "duplicate_of:0", None, None]
    assert screened.table().schema.equals(SCHEMA) and screened.plan == images.plan
    both = ScreeningConfig(near_duplicates=True)
    screened = run_stage(SCREEN_IMAGES, both, {"images_listed": images}, tmp_path)
    found = reasons(screened)
    assert found == [None, None, None, "duplicate_of:0", "near_duplicate_of:1", None]
    assert screened.stats["dropped"] == {"duplicate_of": 1, "near_duplicate_of": 1}
    assert (screened.stats["bad"], screened.stats["kept"], screened.stats["n"]) == (0, 4, 6)


def test_what_a_benchmark_holds_is_dropped_and_says_where(source: Path, tmp_path: Path):
    again = io.BytesIO()
    picture(1).resize((120, 90)).save(again, "JPEG", quality=80)
    other = io.BytesIO()
    picture(77).save(other, "PNG")
    mine = prepared(
        tmp_path / "mine", {"0.png": (source / "a.png").read_bytes(), "1.jpg": again.getvalue()}
    )
    coco = prepared(
        tmp_path / "coco",
        {"COCO_val2014_000000000139.png": other.getvalue(), "2007_000033.png": other.getvalue()},
    )
    inputs = {"images_listed": listed(source, tmp_path)}
    inputs |= {
        name: prints(name, folder, tmp_path)
        for name, folder in {"my-street": mine, "coco-stuff-171": coco}.items()
    }
    screened = run_stage(SCREEN_IMAGES, ScreeningConfig(), inputs, tmp_path)
    assert reasons(screened) == [
        "in_benchmark:my-street by sha256",
        "in_benchmark:my-street by phash",
        "in_benchmark:coco-stuff-171 by id",
        "in_benchmark:my-street by sha256",
        "in_benchmark:my-street by phash",
        None,  # an id of PASCAL's means nothing in a benchmark of COCO's
    ]
    assert screened.stats["in_benchmark"] == {"coco-stuff-171": 1, "my-street": 4}
    assert screened.stats["dropped"] == {"in_benchmark": 5} and screened.stats["bad"] == 0
    blind = run_stage(SCREEN_IMAGES, ScreeningConfig(hash_distance=None), inputs, tmp_path)
    assert reasons(blind)[1] is None and reasons(blind)[0] is not None


def test_the_digest_depends_on_the_benchmark_s_images(source: Path, tmp_path: Path):
    images, folder = listed(source, tmp_path), tmp_path / "voc"
    prepared(folder, {"2007_000033.png": (source / "b.png").read_bytes()})
    before = {"images_listed": images, "voc-20": prints("voc-20", folder, tmp_path)}
    shutil.copy(source / "a.png", folder / "images" / "2007_000033.png")
    after = {"images_listed": images, "voc-20": prints("voc-20", folder, tmp_path)}
    digests = {
        stage_folder(SCREEN_IMAGES, ScreeningConfig(), inputs, tmp_path)[0]
        for inputs in ({"images_listed": images}, before, after)
    }
    assert len(digests) == 3
    found = reasons(run_stage(SCREEN_IMAGES, ScreeningConfig(), after, tmp_path))
    assert found[0] == "in_benchmark:voc-20 by sha256" and found[5] == "in_benchmark:voc-20 by id"


def test_published_ids():
    names = ("000000000139.jpg", "COCO_val2014_000000000139.jpg", "0.tar#x/000000000139.jpg")
    assert {published_id(name, "coco") for name in names} == {"000000000139"}
    for name in ("139.jpg", "000000139.jpg", "0000000001390.jpg", "x000000000139.jpg"):
        assert published_id(name, "coco") is None
    assert published_id("JPEGImages/2007_000033.jpg", "pascal") == "2007_000033"
    assert family("coco-panoptic-133") == "coco" and family("context-459") == "pascal"
    assert family("ade20k-150") is None


def test_the_captioned_images_of_coco_val_fall_to_a_coco_benchmark(
    reference_data: Path, tmp_path: Path
):
    """Captions of val2017 with images that a COCO benchmark is scored on, and train2017 beside."""
    held = sorted((reference_data / "realdata/coco128_panoptic/images/val2017").glob("*.jpg"))[:12]
    train = sorted((reference_data / "realdata/coco_mini/train2017").glob("*.jpg"))[:8]
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in [*held, *train]:
        (folder / path.name).symlink_to(path)
    write_captions(folder, [path.name for path in [*held, *train]])
    benchmark = prepared(tmp_path / "b", {path.name: path.read_bytes() for path in held[:10]})
    small = io.BytesIO()
    Image.open(held[10]).resize((320, 240)).save(small, "JPEG", quality=70)
    (benchmark / "images" / "renamed.jpg").write_bytes(small.getvalue())
    Image.new("L", (1, 1)).save(benchmark / "labels" / "renamed.png")
    inputs = {"images_listed": listed(folder, tmp_path)}
    inputs["coco-stuff-171"] = prints("coco-stuff-171", benchmark, tmp_path)
    found = reasons(run_stage(SCREEN_IMAGES, ScreeningConfig(), inputs, tmp_path))
    assert found[:10] == ["in_benchmark:coco-stuff-171 by sha256"] * 10
    assert found[10] == "in_benchmark:coco-stuff-171 by phash"
    assert found[11:] == [None] * 9


# --------------------------------------------------------------------------------------
# Comparing hashes

HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=30)


@given(HASHES, HASHES, st.integers(0, 8), st.integers(0, 2**63))
def test_near_finds_what_comparing_all_finds(one, other, distance, flip):
    other = [*other, *(value ^ (flip & -flip) for value in one)]
    a, b = (np.array(values, dtype=np.uint64) for values in (one, other))
    found = list(zip(*(places.tolist() for places in near(a, b, distance)), strict=True))
    assert found == [
        (i, j)
        for i, x in enumerate(one)
        for j, y in enumerate(other)
        if (x ^ y).bit_count() <= distance and min(x.bit_count(), y.bit_count()) >= 24
    ]


def test_the_first_of_repeats_is_the_original():
    assert same_bytes([3, 5, 9, 10], ["x", "y", "x", "x"]) == {9: 3, 10: 3}
    base = (1 << 40) - 1
    chain = np.array([base, base ^ 0b11, base ^ 0b1111, base ^ 0b1111], dtype=np.uint64)
    assert looking_alike([3, 5, 9, 10], chain, 2) == {5: 3, 10: 9}
    assert looking_alike([3, 5], np.array([0, 0], dtype=np.uint64), 4) == {}, "flat images"
