"""The list of images: its rows, its reasons, its digest."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.config.data import ImagesConfig
from ovseg.data.listing import LIST_IMAGES
from ovseg.data.perceptual_hash import phash
from ovseg.errors import OvsegError
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.schema import IMAGES as SCHEMA


def make_source(folder: Path, names: list[str], *, captioned: set[str] | None = None) -> Path:
    """An image for every name (10, 11, ... are the ids) and two captions an image."""
    images, annotations = [], []
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 9, 3), dtype=np.uint8)
        if name and ".." not in name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)
        images.append({"id": 10 + number, "file_name": name})
        if captioned is None or name in captioned:
            for half in (1, 0):
                text = f"caption {number} {half}"
                annotations.append(
                    {"id": 2 * number + half, "image_id": 10 + number} | {"caption": text}
                )
    path = folder / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def config(folder: Path, **changes: object) -> ImagesConfig:
    return ImagesConfig(
        dataset="d", captions=folder / "captions.json", image_root=folder, shard_size=2, **changes
    )


def test_rows_of_good_images(tmp_path: Path):
    make_source(tmp_path, ["a.png", "sub/b.png", "c.png"])
    manifest = run_stage(LIST_IMAGES, config(tmp_path, min_shards=1), {}, tmp_path / "runs")
    assert manifest.plan.counts == (2, 1)
    table = manifest.table()
    assert table.schema.equals(SCHEMA)
    row = table.to_pylist()[1]
    pixels = np.asarray(Image.open(tmp_path / "sub/b.png"))
    assert row == {
        "dataset": "d",
        "image_id": 11,
        "image_path": "sub/b.png",
        "image_sha256": hashlib.sha256((tmp_path / "sub/b.png").read_bytes()).hexdigest(),
        "image_phash": phash(pixels),
        "width": 9,
        "height": 6,
        "captions": [
            {"caption_id": 2, "text": "caption 1 0"},
            {"caption_id": 3, "text": "caption 1 1"},
        ],
        "kept": True,
        "drop_reason": None,
    }
    assert manifest.stats["n"] == manifest.stats["kept"] == 3
    assert manifest.stats["captions"] == 6


def test_every_reason_is_a_row(tmp_path: Path):
    names = ["a.png", "gone.png", "empty.png", "../out.png", "", "page.png", "silent.png", "z.png"]
    make_source(tmp_path, names, captioned=set(names) - {"silent.png"})
    (tmp_path / "gone.png").unlink()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.png").write_text("<html>")
    shutil.copy(tmp_path / "a.png", tmp_path / "z.png")
    Image.new("RGB", (4, 4)).save(tmp_path.parent / "out.png")
    manifest = run_stage(LIST_IMAGES, config(tmp_path, max_bad_fraction=1), {}, tmp_path / "runs")
    rows = manifest.table().to_pylist()
    assert [row["drop_reason"] for row in rows] == [
        None,
        "missing_file",
        "zero_bytes",
        "path_outside_root",
        "no_file_name",
        "not_an_image",
        "no_caption",
        None,
    ]
    assert [row["kept"] for row in rows] == [True] + [False] * 6 + [True]
    assert rows[3]["image_sha256"] is None
    assert rows[7]["image_sha256"] == rows[0]["image_sha256"]
    stats = manifest.stats
    assert (stats["n"], stats["bad"], stats["images_without_captions"]) == (7, 5, 1)
    assert stats["first_bad"] == "gone.png: missing_file"


def test_too_many_bad_images_stop_the_stage(tmp_path: Path):
    make_source(tmp_path, [f"{n}.png" for n in range(10)])
    (tmp_path / "4.png").write_bytes(b"")
    run_stage(LIST_IMAGES, config(tmp_path, max_bad_fraction=0.1), {}, tmp_path / "lenient")
    with pytest.raises(OvsegError, match=r"1 of 10 .*0\.05 allows.*4\.png: zero_bytes") as error:
        run_stage(LIST_IMAGES, config(tmp_path), {}, tmp_path / "runs")
    assert "\n" not in str(error.value)
    Image.new("RGB", (4, 4)).save(tmp_path / "4.png")
    mended = run_stage(LIST_IMAGES, config(tmp_path), {}, tmp_path / "runs")
    assert mended.stats["bad"] == 0


def test_a_raised_limit_finishes_the_folder_that_was_stopped(tmp_path: Path):
    make_source(tmp_path, [f"{n}.png" for n in range(4)])
    (tmp_path / "3.png").write_bytes(b"")
    with pytest.raises(OvsegError, match=r"--set data\.max_bad_fraction=0\.25"):
        run_stage(LIST_IMAGES, config(tmp_path), {}, tmp_path / "runs")
    raised = run_stage(LIST_IMAGES, config(tmp_path, max_bad_fraction=0.3), {}, tmp_path / "runs")
    assert raised.stats["bad"] == 1
    assert [raised.folder] == list((tmp_path / "runs" / "images_listed").iterdir())


def test_a_file_that_captions_none_of_its_images_is_refused(tmp_path: Path):
    path = make_source(tmp_path, ["a.png", "b.png"])
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    path.write_text(json.dumps(document))
    with pytest.raises(OvsegError, match=r"captions\.json .* no_id 4") as error:
        run_stage(LIST_IMAGES, config(tmp_path), {}, tmp_path / "runs")
    assert "\n" not in str(error.value)


def test_limit_and_captions_an_image(tmp_path: Path):
    make_source(tmp_path, ["a.png", "b.png", "c.png"])
    chosen = config(tmp_path, limit=2, captions_per_image=1)
    manifest = run_stage(LIST_IMAGES, chosen, {}, tmp_path / "runs")
    assert (manifest.stats["captions"], manifest.stats["captions_not_used"]) == (2, 2)
    rows = manifest.table().to_pylist()
    assert [[c["caption_id"] for c in row["captions"]] for row in rows] == [[0], [2]]


def test_small_sets_are_cut_finer(tmp_path: Path):
    make_source(tmp_path, [f"{n}.png" for n in range(9)])
    chosen = ImagesConfig(captions=tmp_path / "captions.json", image_root=tmp_path)
    assert len(LIST_IMAGES.plan(chosen, {})) >= 8


def test_the_digest_covers_captions_and_images(tmp_path: Path):
    make_source(tmp_path, ["a.png", "b.png"])
    folder = {stage_folder(LIST_IMAGES, config(tmp_path), {}, tmp_path)[0]}
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for name in ("a.png", "b.png", "captions.json"):
        shutil.copy(tmp_path / name, copied / name)
    folder.add(stage_folder(LIST_IMAGES, config(copied), {}, tmp_path)[0])
    assert len(folder) == 1, "where the files lie does not matter"
    (copied / "a.png").write_bytes(b"")
    folder.add(stage_folder(LIST_IMAGES, config(copied), {}, tmp_path)[0])
    assert len(folder) == 2
    captions = (copied / "captions.json").read_text()
    (copied / "captions.json").write_text(captions + "\n")
    assert stage_folder(LIST_IMAGES, config(copied), {}, tmp_path)[0] in folder, (
        "nothing else is read"
    )
    (copied / "captions.json").write_text(captions.replace("caption 0 0", "caption 0 zero"))
    folder.add(stage_folder(LIST_IMAGES, config(copied), {}, tmp_path)[0])
    assert len(folder) == 3


def test_what_is_not_set_is_named(tmp_path: Path):
    make_source(tmp_path, [])
    for chosen, words in (
        (ImagesConfig(image_root=tmp_path), "data.captions"),
        (ImagesConfig(captions=tmp_path / "captions.json", image_root=tmp_path), "lists no images"),
    ):
        with pytest.raises(OvsegError, match=words):
            LIST_IMAGES.plan(chosen, {})
    make_source(tmp_path, ["a.png"])
    for root in (None, tmp_path / "nowhere", tmp_path / "a.png"):
        chosen = ImagesConfig(captions=tmp_path / "captions.json", image_root=root)
        with pytest.raises(OvsegError, match=r"data\.images"):
            stage_folder(LIST_IMAGES, chosen, {}, tmp_path)
