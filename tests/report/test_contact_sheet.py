"""The contact sheet: what is painted where, labels that stay inside, the layout, the upper half."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from ovseg.config.reporting import SheetConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.errors import OvsegError
from ovseg.evaluation.samples import read_sample
from ovseg.report import contact_sheet
from ovseg.report.contact_sheet import CONTACT_SHEET, segmentation_rows, sheet_inputs
from ovseg.report.painting import draw_masks, palette, tint
from ovseg.report.tiles import (
    GAP,
    HEADING,
    INK,
    MARGIN,
    PAPER,
    _free_box,
    _ink_on,
    draw_pairs,
    fit,
    lay_out,
    write_captions,
)
from ovseg.stages import schema
from ovseg.stages.run import run_stage, stage_folder
from ovseg.storybook.world import write_world


def row(mask, noun="moon", **more):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "mask_size": rle["size"],
        "mask_counts": rle["counts"],
        "area_fraction": mask.mean(),
        "noun": noun,
        **more,
    }


def square(shape, top, left, side):
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_tint_mixes_inside_and_outlines():
    image = np.full((12, 12, 3), 100, dtype=np.uint8)
    mask = square((12, 12), 3, 3, 5)
    tint(image, mask, (200, 0, 0), 0.5)
    assert image[5, 5].tolist() == [150, 50, 50]
    for y, x in ((3, 3), (3, 5), (7, 7), (5, 3)):
        assert image[y, x].tolist() == [200, 0, 0]
    assert (image[~mask] == 100).all()


def test_small_masks_stay_visible_and_empty_ones_do_no_harm():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    small, large = square((20, 20), 8, 8, 3), np.ones((20, 20), dtype=bool)
    drawn = np.asarray(draw_masks(image, [row(small), row(large), row(~large)]))
    assert drawn[8, 8].tolist() != drawn[0, 0].tolist()
    assert (image == 0).all()
    for change in ({"mask_counts": b"0o"}, {"mask_size": [30, 40]}):
        damaged = {**row(small), "image_id": 7, **change}
        for draw in (
            lambda rows: draw_masks(image, rows),
            lambda rows: draw_pairs(image, rows, 99),
        ):
            with pytest.raises(OvsegError, match=r"the mask of image 7 cannot be used"):
                draw([row(large), damaged])


def test_fit_keeps_the_shape_and_centres():
    tile = np.asarray(fit(Image.new("RGB", (40, 20), "black"), 80))
    assert tile.shape == (80, 80, 3)
    assert (tile[20:60] == 0).all()
    assert (tile[:20] == PAPER).all() and (tile[60:] == PAPER).all()


@pytest.fixture
def boxes(monkeypatch):
    """The boxes of labels, as they are placed."""
    placed, place = [], _free_box

    def remember(*args):
        placed.append(place(*args))
        return placed[-1]

    monkeypatch.setattr("ovseg.report.tiles._free_box", remember)
    return placed


def test_labels_stay_inside_and_off_each_other(boxes):
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    masks = [square((64, 64), top, left, 6) for top in (0, 58) for left in (0, 58)]
    masks += [square((64, 64), 28 + i, 28, 6) for i in range(3)]
    rows = [row(mask, f"noun {index}") for index, mask in enumerate(masks)]
    rows.append(row(square((64, 64), 5, 5, 40), "a very long compound that fits no tile at all"))
    picture = draw_pairs(image, rows, 200)
    assert picture.size == (200, 200) and len(boxes) == 8
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 200 and 0 <= top < bottom <= 200
    for index, a in enumerate(boxes):
        for b in boxes[:index]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (40, 40)])
def test_a_label_stands_on_its_mask_whatever_the_image_s_shape(boxes, shape):
    height, width = shape
    mask = square(shape, height // 2 - 3, width // 2 - 3, 6)
    draw_pairs(np.zeros((*shape, 3), dtype=np.uint8), [row(mask, "x")], 120)
    ((left, top, right, bottom),) = boxes
    assert (left + right) / 2 == pytest.approx(60, abs=3)
    assert (top + bottom) / 2 == pytest.approx(60, abs=3)


def test_nouns_of_one_mask_share_a_label(boxes):
    mask = square((30, 30), 5, 5, 9)
    empty = np.zeros((30, 30), dtype=bool)
    rows = [row(mask, "moon"), row(mask, "sky"), row(empty, "night")]
    draw_pairs(np.zeros((30, 30, 3), np.uint8), rows, 90)
    assert len(boxes) == 1


def test_captions_wrap_inside_the_tile():
    words = "a picket fence beside the little house under a pale moon"
    tile = np.asarray(write_captions([words], 96))
    assert tile.shape == (96, 96, 3)
    inked = (tile != PAPER).any(axis=-1)
    lines = [inked[2 + 16 * index : 18 + 16 * index].any() for index in range(5)]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    length = pen.textlength(words, font=ImageFont.load_default(12))
    assert sum(lines) >= length / 88  # more lines than the text is tiles wide
    assert not inked[:, :4].any() and not inked[:, 93:].any()
    assert (np.asarray(write_captions([], 64)) == PAPER).all()


def test_a_word_wider_than_the_tile_costs_no_empty_line():
    tile = np.asarray(write_captions(["w" * 80, "moon"], 64))
    inked = (tile != PAPER).any(axis=(1, 2))
    assert inked[2:18].any() and inked[24:40].any()
    assert tuple(tile.reshape(-1, 3).min(axis=0)) >= INK


def test_the_layout_s_size_and_places():
    tile, red = 64, (255, 0, 0)
    rows = [[Image.new("RGB", (tile, height), red)] * 2 for height in (64, 64)]
    tall = [[Image.new("RGB", (tile, 90), red)]]
    sheet = lay_out([("One", ["a", "b"], rows), ("Two", ["c", "d", "e"], tall)], tile)
    assert sheet.width == 2 * MARGIN + 3 * tile + 2 * GAP
    assert sheet.height == MARGIN + 6 * HEADING + 2 * (64 + GAP) + 90 + GAP
    pixels = (np.asarray(sheet) == red).all(axis=-1)
    assert pixels.sum() == 4 * 64 * 64 + 64 * 90  # nothing overlaps or is cut
    assert not pixels[:, :MARGIN].any() and not pixels[:MARGIN].any()
    assert lay_out([("Nothing", ["a"], [])], tile).size == (2 * MARGIN + 64, MARGIN + 3 * HEADING)


@pytest.fixture
def mined(toy, tmp_path):
    """Two images with pairs, one of them gone, as mined manifests."""
    mask = square((8, 10), 1, 1, 5)
    own = {"dataset": "toy", "kept": True}
    images = [
        {
            **own,
            "image_id": number,
            "image_path": f"{number}.png",
            "captions": [{"caption_id": number, "text": "A moon."}],
        }
        for number in (1, 2, 3)
    ]
    for number in (1, 3):
        Image.new("RGB", (10, 8), "navy").save(tmp_path / f"{number}.png")
    proposals = [
        {**own, "image_id": n, "proposal_id": 0, "proposal_score": 0.9, **row(mask)}
        for n in (1, 2, 3)
    ]
    for proposal in proposals:
        del proposal["noun"]
    pairs = [
        {
            "pair_id": f"{n:016x}",
            "source": "mined",
            "dataset": "toy",
            "round": 0,
            "image_id": n,
            "kept": n != 3,
            "drop_reason": None if n != 3 else "low_similarity",
            **row(mask),
        }
        for n in (1, 2, 3)
    ]
    root = tmp_path / "run"
    return {
        "images": toy.publish_rows(root, "images", [images], schema.IMAGES),
        "proposals": toy.publish_rows(root, "proposals", [proposals], schema.PROPOSALS),
        "table": toy.publish_table(root, pairs, shards=1),
        "nouns": None,
    }


def test_the_upper_half_of_a_mined_run(mined, tmp_path):
    config = SheetConfig(images=4, tile=64, image_root=tmp_path)
    inputs = sheet_inputs(mined, {})
    assert set(inputs) == {"images", "proposals", "table"}
    (tiles,) = contact_sheet.mining_rows(config, inputs)  # 2 has no file, 3 no kept pair
    assert [tile.size for tile in tiles] == [(64, 64)] * 4
    sheets = [run_stage(CONTACT_SHEET, config, inputs, tmp_path / name) for name in ("a", "b")]
    assert sheets[0].rows == 1
    with Image.open(sheets[0].payload() / "contact-sheet.png") as sheet:
        assert sheet.width == 2 * MARGIN + 4 * 64 + 3 * GAP
    assert sheets[0].content_digest == sheets[1].content_digest


def test_only_the_shards_that_are_shown_are_read(toy, tmp_path):
    mask = square((8, 10), 1, 1, 5)
    own = {"dataset": "toy", "kept": True}
    numbers, root = range(1, 7), tmp_path / "run"
    for number in numbers:
        Image.new("RGB", (10, 8), "navy").save(tmp_path / f"{number}.png")
    images = [[{**own, "image_id": n, "image_path": f"{n}.png", "captions": []}] for n in numbers]
    proposals = [[{**own, "image_id": n, "proposal_id": 0, **row(mask)}] for n in numbers]
    for (proposal,) in proposals:
        del proposal["noun"]
    pairs = [
        {
            **own,
            "pair_id": f"{n:016x}",
            "source": "mined",
            "round": 0,
            "image_id": n,
            **row(mask),
        }
        for n in numbers
        if n != 2
    ]
    inputs = {
        "images": toy.publish_rows(root, "images", images, schema.IMAGES),
        "proposals": toy.publish_rows(root, "proposals", proposals, schema.PROPOSALS),
        "table": toy.publish_table(root, pairs, shards=1),
    }
    for unread in inputs["proposals"].paths()[1:2] + inputs["proposals"].paths()[3:]:
        unread.unlink()  # of the image without pairs, and of those behind the last one shown
    config = SheetConfig(images=2, tile=64, image_root=tmp_path)
    tiles = contact_sheet.mining_rows(config, inputs)
    assert len(tiles) == 2
    plain = np.asarray(tiles[0][0])
    assert all((np.asarray(picture) != plain).any() for picture in tiles[1][2:])


def test_labels_can_be_read_on_every_color():
    for color in palette(range(40)):
        ink = _ink_on(color)
        assert abs(np.mean(ink) - np.mean(color)) > 60


def test_the_lower_half_shows_images_that_are_scored(tiny_clip, tiny_maskformer, tmp_path):
    write_world(tmp_path, part="val", n=4, size=64, seed=0)
    config = BenchmarkConfig(
        root=tmp_path, clip=str(tiny_clip), maskformer=str(tiny_maskformer), short_side=64, limit=2
    )
    shown = segmentation_rows(config, None, images=2, tile=64)
    scored = load_benchmark("storybook", tmp_path, limit=2)
    for tiles, sample in zip(shown, scored.samples, strict=True):
        picture, _ = read_sample(scored, sample)
        assert (np.asarray(tiles[0]) == picture).all()


def test_where_the_benchmark_lies_is_not_in_the_manifest(tmp_path):
    here, there = (
        SheetConfig(benchmark=BenchmarkConfig(root=tmp_path / name), image_root=tmp_path / name)
        for name in ("a", "b")
    )
    assert here.digest() == there.digest()
    assert str(tmp_path) not in str(here.result_fields())


def test_the_arm_of_most_phases_is_shown(mined):
    inputs = sheet_inputs(mined, {"finetuned": mined["images"], "both": mined["table"]})
    assert inputs["checkpoint"] is mined["table"]


def test_both_halves_and_what_they_depend_on(mined, tiny_clip, tiny_maskformer, tmp_path):
    world = tmp_path / "world"
    write_world(world, part="val", n=2, size=64, seed=0)
    benchmark = BenchmarkConfig(
        root=world, clip=str(tiny_clip), maskformer=str(tiny_maskformer), short_side=64
    )
    config = SheetConfig(images=2, tile=64, image_root=tmp_path, benchmark=benchmark)
    inputs = sheet_inputs(mined, {})
    manifest = run_stage(CONTACT_SHEET, config, inputs, tmp_path / "run")
    assert manifest.rows == 3  # one mined image, two scenes
    with Image.open(manifest.payload() / "contact-sheet.png") as sheet:
        assert sheet.width == 2 * MARGIN + 4 * 64 + 3 * GAP
    shutil.copytree(world, tmp_path / "copy")
    moved = config.model_copy(
        update={"benchmark": benchmark.model_copy(update={"root": tmp_path / "copy"})}
    )
    assert run_stage(CONTACT_SHEET, moved, inputs, tmp_path / "run").folder == manifest.folder
    picture = next((tmp_path / "copy" / "images").rglob("*.png"))
    Image.new("RGB", (64, 64), "red").save(picture)
    assert stage_folder(CONTACT_SHEET, moved, inputs, tmp_path / "run")[0] != manifest.folder
