"""Pairs held against panoptic ground truth: the judgement by hand, and the stage over files."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.config.mining import TruthConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.pair_truth import TRUTH, category_names, judge, read_panoptic, segment_ids
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.schema import PAIR_TRUTH, PAIRS, rows_to_table
from ovseg.stages.stage import Output, Stage

NAMES = ["moon", "sea"]


def mask(rows, columns, shape=(4, 6)):
    made = np.zeros(shape, dtype=bool)
    made[rows, columns] = True
    return made


def test_judge_by_hand():
    categories = np.full((4, 6), -1, dtype=np.int64)
    categories[:2, :3] = 0  # 6 pixels of moon
    categories[2:, :] = 1  # 12 pixels of sea
    # 4 of moon, 2 of sea, 2 unlabelled: union of mask and moon is 8 + 6 - 4
    under = mask(slice(0, 2), slice(1, 4)) | mask(2, slice(0, 2))
    name, share, iou = judge(under, categories, NAMES)
    assert (name, share, iou) == ("moon", 4 / 8, 4 / 10)
    name, share, iou = judge(categories == 1, categories, NAMES)
    assert (name, share, iou) == ("sea", 1.0, 1.0)


def test_nothing_labelled_under_a_mask():
    categories = np.full((4, 6), -1, dtype=np.int64)
    assert judge(mask(0, slice(0, 3)), categories, NAMES) == (None, 0.0, 0.0)
    assert judge(np.zeros((4, 6), dtype=bool), categories, NAMES) == (None, 0.0, 0.0)


def test_synonyms_and_compounds_name_their_category():
    names = category_names(["fence", "house"])
    assert names["fence"] == names["picket fence"] == "fence"
    assert names["cottage"] == names["country house"] == "house"
    assert "picture" not in names and "moon" not in names


def test_the_categories_of_coco_panoptic_have_names_too():
    names = category_names(["fence-merged", "sky-other-merged", "couch", "giraffe", "cottage"])
    assert names["giraffe"] == "giraffe"
    assert names["fence"] == names["picket fence"] == "fence-merged"
    assert names["sky"] == "sky-other-merged"
    assert names["sofa"] == "couch"
    own = category_names(["house", "cottage"])
    assert own["cottage"] == "cottage"  # its own name, and a synonym of the other


class Table(Stage):
    """A published pair table, a folder, of these rows."""

    name = "tables/pairs"
    suffix = ""

    def __init__(self, rows):
        self.rows = rows

    def plan(self, config, inputs):
        return ShardPlan.single("table", len(self.rows))

    def write(self, config, inputs, target, *, shard, progress):
        part = target / "dataset=toy" / "round=0"
        part.mkdir(parents=True)
        write_parquet(rows_to_table(self.rows, PAIRS), part / "part-00000.parquet")
        return Output(rows=len(self.rows))


def pair(pair_id, noun, made, *, image_id=1, kept=True):
    rle = coco_mask.encode(np.asfortranarray(made.astype(np.uint8)))
    return {
        "pair_id": pair_id,
        "noun": noun,
        "image_id": image_id,
        "mask_size": rle["size"],
        "mask_counts": rle["counts"],
        "kept": kept,
    }


SEGMENTS = {300: ("fence", mask(slice(0, 2), slice(0, 6))), 70_000: ("moon", mask(3, slice(0, 4)))}


@pytest.fixture
def panoptic(tmp_path):
    """One image of a fence above a moon, with unlabelled pixels, in COCO's format."""
    ids = np.zeros((4, 6), dtype=np.int64)
    for segment, (_, under) in SEGMENTS.items():
        ids[under] = segment
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    for folder in ("panoptic", "annotations"):
        (tmp_path / "world" / folder).mkdir(parents=True)
    Image.fromarray(rgb).save(tmp_path / "world" / "panoptic" / "0001.png")
    data = {
        "categories": [{"id": 7, "name": "fence"}, {"id": 9, "name": "moon"}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "0001.png",
                "segments_info": [
                    {"id": segment, "category_id": {"fence": 7, "moon": 9}[name]}
                    for segment, (name, _) in SEGMENTS.items()
                ],
            }
        ],
    }
    path = tmp_path / "world" / "annotations" / "panoptic.json"
    path.write_text(json.dumps(data))
    assert set(np.unique(segment_ids(tmp_path / "world" / "panoptic" / "0001.png"))) == {
        0,
        300,
        70_000,
    }
    return path


def judged(rows, panoptic, root):
    table = run_stage(Table(rows), TruthConfig(), {}, root)
    return run_stage(TRUTH, TruthConfig(panoptic=panoptic), {"table": table}, root)


def test_the_stage_judges_kept_pairs(panoptic, tmp_path):
    fence, moon = (under for _, under in SEGMENTS.values())
    rows = [
        pair("d", "picket fence", fence),
        pair("c", "moon", fence),  # the wrong mask
        pair("b", "picture", fence),  # names no category
        pair("a", "moon", moon | mask(2, slice(0, 2))),
        pair("e", "moon", mask(2, slice(0, 6))),  # over unlabelled pixels alone
        pair("f", "moon", moon, kept=False),
        pair("g", "moon", moon, image_id=2),  # without ground truth
    ]
    manifest = judged(rows, panoptic, tmp_path / "run")
    table = manifest.table()
    assert table.schema.equals(PAIR_TRUTH)
    found = {row.pop("pair_id"): row for row in table.to_pylist()}
    assert list(found) == ["a", "b", "c", "d", "e"]
    assert {key: row["correct"] for key, row in found.items()} == {
        "a": True, "b": False, "c": False, "d": True, "e": False,
    }  # fmt: skip
    assert found["a"]["gt_share"] == pytest.approx(4 / 6)
    assert found["a"]["gt_iou"] == pytest.approx(4 / 6)
    assert found["b"]["noun_category"] is None and found["b"]["gt_category"] == "fence"
    assert found["c"]["noun_category"] == "moon" and found["c"]["gt_category"] == "fence"
    assert found["e"]["gt_category"] is None and found["e"]["gt_share"] == 0
    assert manifest.stats == {
        "pairs": 5,
        "named": 4,
        "correct": 2,
        "precision": pytest.approx(2 / 5),
        "precision_of_named": pytest.approx(2 / 4),
    }


def test_no_pair_to_judge_is_no_division_by_zero(panoptic, tmp_path):
    manifest = judged([pair("a", "moon", mask(0, 0), kept=False)], panoptic, tmp_path / "run")
    assert manifest.rows == 0
    assert manifest.stats["precision"] == manifest.stats["precision_of_named"] == 0


def test_other_ground_truth_is_another_result(panoptic, tmp_path):
    rows = [pair("a", "moon", mask(3, slice(0, 4)))]
    first = judged(rows, panoptic, tmp_path / "run")
    panoptic.write_text(panoptic.read_text().replace('"moon"', '"sun"'))
    second = judged(rows, panoptic, tmp_path / "run")
    assert first.stats["correct"] == 1 and second.stats["correct"] == 0
    assert first.folder != second.folder
    picture = panoptic.parent.parent / "panoptic" / "0001.png"
    Image.new("RGB", (6, 4), "black").save(picture)
    assert judged(rows, panoptic, tmp_path / "run").folder != second.folder


def test_ground_truth_that_cannot_be_used(panoptic, tmp_path):
    rows = [pair("a", "moon", mask(0, 0))]
    with pytest.raises(OvsegError, match="set panoptic"):
        judged(rows, None, tmp_path)
    with pytest.raises(OvsegError, match=r"gone\.json does not exist"):
        judged(rows, tmp_path / "gone.json", tmp_path)
    with pytest.raises(OvsegError, match="other images"):
        judged([pair("b", "moon", mask(0, 0, shape=(9, 5)))], panoptic, tmp_path / "sizes")
    picture = panoptic.parent.parent / "panoptic" / "0001.png"
    picture.unlink()
    with pytest.raises(OvsegError, match=r"0001\.png cannot be read"):
        judged(rows, panoptic, tmp_path)
    picture.parent.rmdir()
    with pytest.raises(OvsegError, match="panoptic does not exist: the PNGs of"):
        judged(rows, panoptic, tmp_path)
    not_json, other = "is not valid JSON", "not a COCO panoptic JSON"
    deep = "[" * 100_000
    for text, words in (("{", not_json), (deep, not_json), ("[]", other), ("{}", other)):
        panoptic.write_text(text)
        with pytest.raises(OvsegError, match=words):
            read_panoptic(panoptic)


@pytest.mark.parametrize("name", ["../0.png", "/etc/passwd", "a/../../b.png", None])
def test_no_file_name_leads_out_of_the_panoptic_folder(tmp_path, name):
    path = tmp_path / "annotations" / "panoptic.json"
    path.parent.mkdir()
    annotation = {"image_id": 1, "file_name": name, "segments_info": []}
    path.write_text(json.dumps({"categories": [], "annotations": [annotation]}))
    with pytest.raises(OvsegError, match="is not a COCO panoptic JSON") as caught:
        read_panoptic(path)
    assert name is None or "leads out of" in str(caught.value)


def test_panoptic_pngs_are_opened_as_label_maps_are(tmp_path):
    path = tmp_path / "a.png"
    colours = np.zeros((2, 2, 3), dtype=np.uint8)
    colours[..., 1] = 2
    Image.fromarray(colours).save(path)
    assert segment_ids(path).tolist() == [[512, 512]] * 2
    Image.fromarray(colours).save(path, format="EPS")
    with pytest.raises(OvsegError, match="neither PNG nor TIFF"):
        segment_ids(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(OvsegError, match="unreadable_file"):
        segment_ids(path)
