"""The training set: which rows a selection joins, how regions look, what is unusable."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.data import masks
from ovseg.errors import OvsegError
from ovseg.training.clip.mapped import MappedRegions
from ovseg.training.clip.pairs import ImagePairs, read_pairs
from ovseg.training.clip.regions import PairRegions, RegionCut, reason_counts
from ovseg.training.clip.streamed import StreamedRegions

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def make_regions(data, *, way: str = "mapped", workers: int = 0, **options) -> PairRegions:
    pairs = ImagePairs(read_pairs(data.curated, [data.table]), data.image_root)
    cut = RegionCut(**{"size": 32, "mean": MEAN, "std": STD, **options})
    folder = data.curated.folder.parents[2] / "regions"
    if way == "mapped":
        return MappedRegions(pairs, cut, folder=folder, workers=workers)
    regions = StreamedRegions(pairs, cut, window=4, folder=folder, workers=workers)
    regions.order(seed=0, epoch=0)
    return regions


def test_the_selection_is_joined_and_ordered_by_pair(training_set):
    data = training_set(6, select=lambda row: row["noun"] in ("moon", "sea"))
    pairs = read_pairs(data.curated, [data.table])
    wanted = {row["pair_id"]: row for row in data.rows if row["noun"] in ("moon", "sea")}
    assert pairs["pair_id"].to_pylist() == sorted(wanted)
    for pair in pairs.to_pylist():
        row = wanted[pair["pair_id"]]
        assert pair["noun"] == row["noun"]
        assert pair["image_path"] == row["image_path"]
        assert pair["mask_counts"] == row["mask_counts"]


def test_the_noun_is_the_querys_own(training_set, given_manifests):
    data = training_set(2)
    chosen = [{"pair_id": row["pair_id"], "noun": row["noun"] + " thing"} for row in data.rows]
    renamed = given_manifests(data.image_root, data.rows, [chosen[1], chosen[0], chosen[0]])
    pairs = read_pairs(renamed.curated, [renamed.table])
    assert sorted(pairs["noun"].to_pylist()) == sorted(
        [chosen[0]["noun"], chosen[0]["noun"], chosen[1]["noun"]]
    )


def test_a_selection_of_nothing_or_of_strangers_is_refused(training_set, given_manifests):
    data = training_set(2)
    with pytest.raises(OvsegError, match="selected no pairs"):
        empty = given_manifests(data.image_root, data.rows, [])
        read_pairs(empty.curated, [empty.table])
    strange = given_manifests(data.image_root, data.rows, [{"pair_id": "feed", "noun": "moon"}])
    with pytest.raises(
        OvsegError, match="1 of the curated pairs are missing from the pair table, the first feed"
    ):
        read_pairs(strange.curated, [strange.table])


def test_a_region_is_the_masks_box_blanked_outside(training_set):
    data = training_set(4)
    regions = make_regions(data)
    batch = regions.regions([0, 5])
    assert batch.pixels.shape == (2, 32, 32, 3) and batch.pixels.dtype == torch.uint8
    assert batch.masks.shape == (2, 32, 32) and batch.masks.dtype == torch.bool
    pairs = read_pairs(data.curated, [data.table]).to_pylist()
    for row, mask in zip((0, 5), batch.masks):
        image = np.asarray(Image.open(data.image_root / pairs[row]["image_path"]))
        full = masks.decode([pairs[row]["mask_counts"]], image.shape[:2])[0]
        y, x = np.nonzero(full)
        box = full[y.min() : y.max() + 1, x.min() : x.max() + 1]
        assert mask[0].any() and mask[-1].any()  # the box is tight
        assert mask[:, 0].any() and mask[:, -1].any()
        assert mask.float().mean().item() == pytest.approx(box.mean(), abs=0.06)
    # both shapes leave a corner of their box blank: the mean colour, rounded
    rows = [row for row, m in enumerate(regions.regions(list(range(8))).masks) if not m[0, 0]]
    assert len(rows) == 8
    corner = regions.regions(rows).pixels[:, 0, 0]
    assert corner.tolist() == [[122, 117, 105]] * len(rows)
    black = make_regions(data, region="zero").regions(rows).pixels[:, 0, 0]
    assert black.tolist() == [[0, 0, 0]] * len(rows)


def test_regions_are_the_same_in_a_file_and_in_a_stream_and_by_workers(training_set):
    data = training_set(5)
    rows = [7, 0, 3, 3, 9]
    expected = make_regions(data).regions(rows)
    for way in ("mapped", "stream"):  # another background, which is not shown: cut again
        with closing(make_regions(data, way=way, workers=2, background=0.5)) as regions:
            batch = regions.regions(rows)
        assert torch.equal(batch.pixels, expected.pixels)
        assert torch.equal(batch.masks, expected.masks)
    assert expected.pixels.float().std() > 10 and expected.masks.any()


@pytest.mark.parametrize("way", ["mapped", "stream"])
def test_what_cannot_be_used_has_a_reason(training_set, given_manifests, way: str):
    data = training_set(6)
    rows = sorted(data.rows, key=lambda row: row["pair_id"])
    by_image = {n: [r for r in rows if r["image_path"] == f"{n:04d}.png"] for n in range(6)}
    (data.image_root / "0000.png").unlink()
    (data.image_root / "0001.png").write_bytes(b"no image")
    Image.new("RGB", (48, 40)).save(data.image_root / "0002.png")  # not the one that was mined
    by_image[3][0]["mask_size"] = [20, 24]
    by_image[3][1]["mask_counts"] = b"0o"  # ends within a number
    by_image[4][0]["mask_counts"] = masks.encode(np.zeros((1, 40, 48), dtype=bool))[0]
    by_image[5][1].update(mask_size=None, mask_counts=None)  # a pair without a proposal
    chosen = [{"pair_id": row["pair_id"], "noun": row["noun"]} for row in rows]
    bad = given_manifests(data.image_root, rows, chosen)
    regions = make_regions(bad, way=way)
    reasons = {rows[number]["pair_id"]: reason for number, reason in regions.unusable.items()}
    expected = {
        **{row["pair_id"]: "missing_file" for row in by_image[0]},
        **{row["pair_id"]: "changed" for row in by_image[1] + by_image[2]},
        by_image[3][0]["pair_id"]: "mask_of_other_size",
        by_image[3][1]["pair_id"]: "broken_mask",
        by_image[4][0]["pair_id"]: "empty_mask",
        by_image[5][1]["pair_id"]: "no_mask",
    }
    assert reasons == expected
    usable = {rows[number]["pair_id"] for number in regions.usable.tolist()}
    assert usable == {by_image[image][kept]["pair_id"] for image, kept in ((4, 1), (5, 0))}
    assert regions.regions(regions.usable.tolist()).masks.any(dim=(1, 2)).all()
    assert reason_counts(regions.unusable.values()) == {
        "broken_mask": 1,
        "changed": 4,
        "empty_mask": 1,
        "mask_of_other_size": 1,
        "missing_file": 2,
        "no_mask": 1,
    }


def test_an_image_lost_on_the_way_stops_with_its_name(training_set):
    data = training_set(2)
    regions = make_regions(data, way="stream")
    Path(regions.pairs.path(0)).unlink()
    with pytest.raises(OvsegError, match=r"\.png disappeared or changed .*\(missing_file\)"):
        regions.regions([0])
    Image.new("RGB", (64, 64)).save(regions.pairs.path(0))
    with pytest.raises(OvsegError, match=r"\(changed\)"):
        regions.regions([0])


def test_a_region_may_be_the_whole_image_with_the_mask_in_place(training_set):
    data = training_set(3)
    batch = make_regions(data, region="image").regions([0, 1, 2, 3])
    faded = make_regions(data, region="attenuated_image", background=0.25).regions([0, 1, 2, 3])
    pairs = read_pairs(data.curated, [data.table]).to_pylist()
    mean = 255 * torch.tensor(MEAN)
    for row in range(4):
        image = Image.open(data.image_root / pairs[row]["image_path"])
        squashed = torch.tensor(np.array(image.resize((32, 32), Image.Resampling.BICUBIC)))
        assert (batch.pixels[row].float() - squashed.float()).abs().max() <= 4
        full = masks.decode([pairs[row]["mask_counts"]], (image.height, image.width))[0]
        at = np.arange(32)
        nearest = full[np.ix_(at * image.height // 32, at * image.width // 32)]
        assert torch.equal(batch.masks[row], torch.from_numpy(nearest))
        inside, outside = batch.masks[row], ~batch.masks[row]
        assert torch.equal(faded.pixels[row][inside], batch.pixels[row][inside])
        expected = 0.25 * batch.pixels[row][outside] + 0.75 * mean
        assert (faded.pixels[row][outside].float() - expected).abs().max() <= 0.51 + 0.125
