"""Ground-truth pairs of 200 photographs of COCO, counted again from another annotation of them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import ProposalsConfig, TableConfig
from ovseg.data import masks
from ovseg.data.listing import LIST_IMAGES
from ovseg.evaluation.pair_truth import segment_ids
from ovseg.mining.pairs.labels import LABEL_PAIRS
from ovseg.mining.pairs.table import PAIR_TABLE
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.stages.run import run_stage
from ovseg.stages.schema import PAIRS as SCHEMA

PARTS = ("train2017", "val2017")


@pytest.fixture(scope="module")
def coco(reference_data):
    """The folder of the photographs, and of both parts the panoptic JSON."""
    folder = reference_data / "realdata" / "coco128_panoptic"
    annotations = folder / "panoptic_segmentation" / "annotations"
    return folder, {
        part: json.loads((annotations / f"panoptic_{part}.json").read_text()) for part in PARTS
    }


def prepare(folder: Path, panoptic: dict[str, dict], target: Path, per_part: int) -> None:
    """A prepared folder of the semantic PNGs: category ids to the places of the categories."""
    categories = sorted(panoptic["val2017"]["categories"], key=lambda category: category["id"])
    place = np.full(256, 255, dtype=np.uint8)
    place[[category["id"] for category in categories]] = range(len(categories))
    for name in ("images", "labels"):
        (target / name).mkdir(parents=True)
    (target / "classes.txt").write_text("".join(f"{c['name']}\n" for c in categories))
    for part in PARTS:
        found = sorted((folder / "semantic_segmentation" / "masks" / part).glob("*.png"))
        for label in found[:per_part]:
            image = folder / "images" / part / f"{label.stem}.jpg"
            (target / "images" / image.name).symlink_to(image)
            stored = np.asarray(Image.open(label))
            Image.fromarray(place[stored]).save(target / "labels" / label.name, compress_level=1)


@pytest.mark.parametrize(
    ("per_part", "expected"),
    [
        (12, {"rows": 152, "kept": 152, "nouns": 72}),
        pytest.param(100, {"rows": 1310, "kept": 1310, "nouns": 129}, marks=pytest.mark.slow),
    ],
)
def test_every_label_is_a_pair_of_as_many_pixels(coco, tmp_path, per_part, expected):
    folder, panoptic = coco
    labelled = tmp_path / "coco-sample"
    prepare(folder, panoptic, labelled, per_part)
    setting = ImagesConfig(
        dataset="coco-sample",
        captions=labelled,
        captions_format="labelled",
        uncaptioned=True,
        image_root=labelled,
    )
    root = tmp_path / "runs"
    images = run_stage(LIST_IMAGES, setting, {}, root)
    assert (images.rows, images.stats["kept"]) == (2 * per_part, 2 * per_part)
    listed = set(images.table()["image_id"].to_pylist())
    truth = ProposalsConfig(source="ground_truth", labels=labelled, image_root=labelled)
    parts = {"images": images, "proposals": run_stage(PROPOSALS, truth, {"images": images}, root)}
    table = TableConfig(dataset="coco-sample", source="gt_label")
    pairs = run_stage(LABEL_PAIRS, table, parts, root)
    published = run_stage(PAIR_TABLE, table, {"pairs": pairs}, root)

    names = {c["id"]: c["name"] for c in panoptic["val2017"]["categories"]}
    pixels: Counter[tuple[int, str]] = Counter()  # of the panoptic JSON, which nothing here reads
    for part in PARTS:
        for item in panoptic[part]["annotations"]:
            for segment in item["segments_info"] if item["image_id"] in listed else ():
                pixels[item["image_id"], names[segment["category_id"]]] += segment["area"]
    rows = pairs.table().to_pylist()
    found = {
        (row["image_id"], row["noun"]): int(
            masks.areas_and_boxes([row["mask_counts"]], tuple(row["mask_size"]))[0][0]
        )
        for row in rows
    }
    assert found == dict(pixels)
    assert all(row["kept"] for row in rows) and pairs.table().schema.equals(SCHEMA)
    assert {key: published.stats[key] for key in expected} == expected
    assert expected["rows"] == len(pixels) and expected["nouns"] == len({n for _, n in pixels})

    # pixel by pixel, from the panoptic PNG of one image a part
    for part in PARTS:
        of_part = [each for each in panoptic[part]["annotations"] if each["image_id"] in listed]
        item = max(of_part, key=lambda each: len(each["segments_info"]))
        ids = segment_ids(
            folder
            / "panoptic_segmentation"
            / "annotations"
            / f"panoptic_{part}"
            / item["file_name"]
        )
        for row in (row for row in rows if row["image_id"] == item["image_id"]):
            of_class = [
                segment["id"]
                for segment in item["segments_info"]
                if names[segment["category_id"]] == row["noun"]
            ]
            (mask,) = masks.decode([row["mask_counts"]], tuple(row["mask_size"]))
            assert np.array_equal(mask, np.isin(ids, of_class)), row["noun"]
