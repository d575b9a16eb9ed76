"""Regions in a file: cut once, found again, never half there, cut anew when anything changed."""

import json
import logging
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from ovseg.errors import OvsegError
from ovseg.training.clip import mapped, regions
from ovseg.training.clip.mapped import INDEX, REGIONS, MappedRegions, cut_once
from ovseg.training.clip.pairs import ImagePairs, read_pairs
from ovseg.training.clip.regions import RegionCut, cut_image

CUT = RegionCut(size=16, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))


def by_image(data) -> ImagePairs:
    return ImagePairs(read_pairs(data.curated, [data.table]), data.image_root)


@pytest.fixture
def counted(monkeypatch):
    """The images that were cut in this process."""
    seen = []

    def cut(image, how):
        seen.append(image.rows)
        return cut_image(image, how)

    monkeypatch.setattr(regions, "cut_image", cut)
    return seen


def test_a_second_phase_finds_them_and_a_deleted_file_is_cut_again(training_set, tmp_path, counted):
    data = training_set(4)
    first = MappedRegions(by_image(data), CUT, folder=tmp_path / "r")
    assert len(counted) == 4
    second = MappedRegions(by_image(data), CUT, folder=tmp_path / "r")
    assert len(counted) == 4
    whole = first.regions(range(8))
    assert torch.equal(second.regions(range(8)).pixels, whole.pixels)
    (place,) = (tmp_path / "r").iterdir()
    assert sorted(path.name for path in place.iterdir()) == [REGIONS, INDEX]
    assert (place / REGIONS).stat().st_size == 8 * 16 * 16 * 4
    shutil.rmtree(place)
    third = MappedRegions(by_image(data), CUT, folder=tmp_path / "r")
    assert len(counted) == 8
    assert torch.equal(third.regions([5, 2]).masks, whole.masks[[5, 2]])


@pytest.mark.parametrize("damage", ["flipped", "cut short", "no index", "other index"])
def test_what_is_not_whole_is_not_read(training_set, tmp_path, counted, damage):
    data = training_set(2)
    expected = MappedRegions(by_image(data), CUT, folder=tmp_path / "r").regions(range(4))
    (place,) = (tmp_path / "r").iterdir()
    content = (place / REGIONS).read_bytes()
    if damage == "flipped":
        (place / REGIONS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut short":
        (place / REGIONS).write_bytes(content[:-1])
    elif damage == "no index":
        (place / INDEX).unlink()
    else:
        (place / INDEX).write_text(json.dumps({"unusable": []}))
    again = MappedRegions(by_image(data), CUT, folder=tmp_path / "r")
    assert len(counted) == 4
    assert torch.equal(again.regions(range(4)).pixels, expected.pixels)


def test_other_pixels_masks_or_cuts_are_other_regions(training_set, given_manifests, tmp_path):
    data = training_set(2)

    def place(pairs=None, cut=CUT) -> str:
        return cut_once(pairs or by_image(data), cut, tmp_path / "r", keeps=True, workers=0)[0].name

    plain = place()
    assert place() == plain
    changed = [{**row} for row in data.rows]
    changed[0]["mask_counts"] = changed[1]["mask_counts"]
    chosen = [{"pair_id": row["pair_id"], "noun": row["noun"]} for row in data.rows]
    others = {
        place(by_image(given_manifests(data.image_root, changed, chosen))),
        place(by_image(given_manifests(data.image_root, data.rows, chosen[:-1]))),
        *(
            place(cut=RegionCut(**{**CUT.__dict__, **change}))
            for change in ({"size": 32}, {"region": "box"}, {"mean": (0.5, 0.5, 0.5)})
        ),
    }
    assert len(others) == 5 and plain not in others
    renamed = [{**row, "noun": "another"} for row in chosen]
    assert place(by_image(given_manifests(data.image_root, data.rows, renamed))) == plain


def test_an_image_that_is_restored_is_cut_after_all(training_set, tmp_path, counted):
    data = training_set(3)
    lost = data.image_root / "0001.png"
    content = lost.read_bytes()
    lost.unlink()
    assert len(MappedRegions(by_image(data), CUT, folder=tmp_path / "r").unusable) == 2
    assert len(MappedRegions(by_image(data), CUT, folder=tmp_path / "r").unusable) == 2
    assert len(counted) == 3
    lost.write_bytes(content)
    assert not MappedRegions(by_image(data), CUT, folder=tmp_path / "r").unusable
    assert len(counted) == 6
    # what was cut needs its image no more
    Image.new("RGB", (8, 8)).save(lost)
    assert not MappedRegions(by_image(data), CUT, folder=tmp_path / "r").unusable


def test_their_size_is_told_and_a_small_disk_refused_in_a_line(
    training_set, tmp_path, caplog, monkeypatch
):
    data = training_set(2)
    caplog.set_level(logging.INFO)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 4095))
    with pytest.raises(OvsegError) as caught:
        MappedRegions(by_image(data), CUT, folder=tmp_path / "r")
    assert "4 regions take 0.00 GiB" in str(caught.value)
    assert "set arms.input=stream" in str(caught.value) and "\n" not in str(caught.value)
    assert "cutting 4 regions of 16 x 16 pixels out of 2 images" in caplog.text
    assert not list((tmp_path / "r").iterdir())


def test_a_killed_writer_leaves_nothing_that_is_read_or_stays(training_set, tmp_path, monkeypatch):
    data = training_set(2)
    abandoned = tmp_path / "r" / "0123.tmp-feed"
    abandoned.mkdir(parents=True)
    (abandoned / REGIONS).write_bytes(b"half")

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(mapped, "cut_ahead", stop)
    with pytest.raises(KeyboardInterrupt):
        MappedRegions(by_image(data), CUT, folder=tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())


def test_of_several_that_need_them_one_cuts(training_set, tmp_path, counted):
    data = training_set(4)
    folder = tmp_path / "r"
    with ThreadPoolExecutor(3) as pool:  # the lock is of the open file, so threads wait as well
        several = [pool.submit(MappedRegions, by_image(data), CUT, folder=folder) for _ in range(3)]
    first, *others = (each.result().regions(range(8)).pixels for each in several)
    assert all(torch.equal(first, other) for other in others)
    assert len(counted) == 4
    assert len(list(folder.iterdir())) == 1
