"""Ground-truth masks: as proposals of images, as pairs with their labels, as masks for nouns."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import PairingConfig, ProposalsConfig, TableConfig
from ovseg.config.registry import READERS
from ovseg.data import masks
from ovseg.data.benchmarks.benchmark import read_prepared
from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError
from ovseg.mining.pairs.labels import LABEL_PAIRS
from ovseg.mining.pairs.stage import PAIRS
from ovseg.mining.pairs.table import PAIR_TABLE, table_files
from ovseg.mining.proposals.ground_truth import GroundTruthSource
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage
from ovseg.stages.schema import PAIRS as SCHEMA

CLASSES = ("wall-brick", "dog", "traffic light ", "sea, ocean")
NAMES = tuple(name.strip() for name in CLASSES)
SIZE = (48, 64)
TABLE = TableConfig(dataset="blocks", source="gt_label")


@dataclass(frozen=True)
class Labelled:
    """The images of the source and the labelled set of nine of them; by image id its label map."""

    folder: Path
    label_maps: dict[int, np.ndarray]
    proposals: ProposalsConfig

    def path(self, image_id: int) -> Path:
        return self.folder / "labels" / f"{image_id - 100:03d}.png"


def blocks(seed: int) -> np.ndarray:
    """A label map of up to four classes and ignored pixels, (48, 64) uint8."""
    values = np.array([0, 1, 2, 3, 255], dtype=np.uint8)
    drawn = np.random.default_rng(seed).choice(values, (4, 4))
    return drawn.repeat(SIZE[0] // 4, axis=0).repeat(SIZE[1] // 4, axis=1)


@pytest.fixture
def labelled(source, tmp_path: Path) -> Labelled:
    folder = tmp_path / "labelled"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    maps = {100 + number: blocks(number) for number in range(10)}
    for image_id, labels in maps.items():
        name = f"{image_id - 100:03d}.png"
        (folder / "images" / name).hardlink_to(source.image_root / name)
        Image.fromarray(labels).save(folder / "labels" / name)
    setting = ProposalsConfig(
        source="ground_truth", labels=folder, image_root=source.image_root, batch_size=2
    )
    return Labelled(folder, maps, setting)


def label_pairs(images: Manifest, setting: ProposalsConfig, root: Path) -> Manifest:
    """The staging shards of the labels' pairs."""
    proposals = run_stage(PROPOSALS, setting, {"images": images}, root)
    return run_stage(LABEL_PAIRS, TABLE, {"images": images, "proposals": proposals}, root)


def published(images: Manifest, setting: ProposalsConfig, root: Path) -> Path:
    """The file of their published table."""
    pairs = label_pairs(images, setting, root)
    (path,) = table_files(run_stage(PAIR_TABLE, TABLE, {"pairs": pairs}, root))
    return path


def by_pixels(label_map: np.ndarray) -> dict[str, np.ndarray]:
    """Of each class its mask, pixel by pixel; the slow way."""
    found: dict[str, np.ndarray] = {}
    for y in range(label_map.shape[0]):
        for x in range(label_map.shape[1]):
            if (value := int(label_map[y, x])) < len(NAMES):
                found.setdefault(NAMES[value], np.zeros(label_map.shape, dtype=bool))[y, x] = True
    return found


def test_every_class_of_an_image_is_a_pair_with_its_mask(source, labelled, tmp_path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    pairs = label_pairs(images, labelled.proposals, tmp_path)
    table = pairs.table()
    assert table.schema.equals(SCHEMA)
    listed = {row["image_id"]: row for row in images.table().to_pylist()}
    rows = table.to_pylist()
    assert len({row["pair_id"] for row in rows}) == len(rows)
    for image_id, label_map in labelled.label_maps.items():
        own = [row for row in rows if row["image_id"] == image_id]
        if image_id == 107:  # nobody captioned it
            assert [(row["noun"], row["drop_reason"]) for row in own] == [(None, "image_dropped")]
            continue
        expected = by_pixels(label_map)
        assert [row["noun"] for row in own] == sorted(expected)
        for row in own:
            (mask,) = masks.decode([row["mask_counts"]], tuple(row["mask_size"]))
            assert np.array_equal(mask, expected[row["noun"]])
            assert row["area_fraction"] == pytest.approx(mask.mean())
            ys, xs = mask.nonzero()
            assert row["bbox_xyxy"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert row["kept"] and row["drop_reason"] is None
            assert (row["source"], row["dataset"], row["round"]) == ("gt_label", "blocks", 0)
            for column in ("image_path", "image_sha256", "image_phash", "width", "height"):
                assert row[column] == listed[image_id][column]
            assert row["proposal_model"].startswith("labelled@")
            for column in ("proposal_id", "proposal_score", "clip_similarity", "clip_margin"):
                assert row[column] is None
            for column in ("mentions", "parser", "head", "mutual_best", "clip_model"):
                assert row[column] is None
    assert pairs.stats["kept"] == sum(
        len(by_pixels(label_map)) for i, label_map in labelled.label_maps.items() if i != 107
    )


def test_images_need_no_caption_for_their_labels(source, labelled, tmp_path):
    setting = source.images.model_copy(update={"uncaptioned": True})
    images = run_stage(LIST_IMAGES, setting, {}, tmp_path)
    rows = label_pairs(images, labelled.proposals, tmp_path).table().to_pylist()
    assert {row["noun"] for row in rows if row["image_id"] == 107} == set(
        by_pixels(labelled.label_maps[107])
    )
    assert images.stats["n"] == images.stats["kept"] == 10


def test_tables_are_equal_bytes_whatever_the_shards_batches_and_workers(source, labelled, tmp_path):
    tables = []
    for name, images_change, change in (
        ("one", {}, {}),
        ("again", {}, {}),
        ("shards", {"shard_size": 10}, {}),
        ("batches", {}, {"batch_size": 7, "decode_workers": 1}),
    ):
        images = run_stage(
            LIST_IMAGES, source.images.model_copy(update=images_change), {}, tmp_path / name
        )
        setting = labelled.proposals.model_copy(update=change)
        tables.append(published(images, setting, tmp_path / name))
    contents = [path.read_bytes() for path in tables]
    assert contents[0] == contents[1] == contents[3]
    import pyarrow.parquet as pq

    # how the images were cut is a column
    first, other = (pq.read_table(path).drop_columns("shard") for path in (tables[0], tables[2]))
    assert first == other


def test_only_masks_of_the_classes_that_may_be_used(source, labelled, tmp_path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    seen = labelled.proposals.model_copy(update={"label_classes": ("dog", "sea, ocean")})
    rows = label_pairs(images, seen, tmp_path).table().to_pylist()
    assert {row["noun"] for row in rows if row["kept"]} == {"dog", "sea, ocean"}
    left_out = [row for row in rows if row["drop_reason"] == "class_left_out"]
    assert {row["noun"] for row in left_out} == {"wall-brick", "traffic light"}
    assert all(row["mask_counts"] is None and row["bbox_xyxy"] is None for row in left_out)
    every = label_pairs(images, labelled.proposals, tmp_path).table().to_pylist()
    named = [(row["image_id"], row["noun"]) for row in rows]
    assert named == [(row["image_id"], row["noun"]) for row in every], "left out, not forgotten"
    with pytest.raises(OvsegError, match=r"label_classes: labelled has no class 'cat'"):
        unknown = seen.model_copy(update={"label_classes": ("cat",)})
        run_stage(PROPOSALS, unknown, {"images": images}, tmp_path)


def test_the_embedded_world_gives_masks_of_seen_classes_only(tmp_path):
    from ovseg.config.presets import load_preset
    from ovseg.storybook.categories import split
    from ovseg.storybook.world import write_world

    write_world(tmp_path / "world", part="mining", n=12, size=64)
    annotations = tmp_path / "world" / "annotations"
    image_root, nouns = tmp_path / "world" / "images", {}
    for seed in (0, 1):
        config = load_preset("storybook", {"seed": seed, "data.min_shards": 2})
        config = config.of_source("gt_label").changed(
            "data",
            captions=annotations / "captions.json",
            images=image_root,
            labels=tmp_path / "world",
        )
        images = run_stage(LIST_IMAGES, config.images, {}, tmp_path / "runs")
        parts = {"images": images}
        parts["proposals"] = run_stage(PROPOSALS, config.proposals, parts, tmp_path / "runs")
        rows = run_stage(LABEL_PAIRS, config.table, parts, tmp_path / "runs").table().to_pylist()
        seen, unseen = split(seed)
        nouns[seed] = {row["noun"] for row in rows if row["kept"]}
        assert nouns[seed] and nouns[seed] <= set(seen)
        left_out = {row["noun"] for row in rows if row["drop_reason"] == "class_left_out"}
        assert left_out and left_out <= set(unseen)
    assert nouns[0] != nouns[1]


# --------------------------------------------------------------------------------------
# Bad labels


def grey(path: Path) -> None:
    Image.new("RGB", (SIZE[1], SIZE[0])).save(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "no_labels"),
        (lambda path: Image.new("L", (64, 47)).save(path), "bad_labels:64 x 47 for an image of"),
        (lambda path: Image.new("L", SIZE).save(path), "bad_labels:48 x 64 for an image of 64 x"),
        (lambda path: Image.new("L", (64, 48), 4).save(path), "bad_labels:label 4 is none of the"),
        (grey, "bad_labels:label map of mode RGB"),
        (lambda path: path.write_bytes(b""), "bad_labels:unreadable label map"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "bad_labels:unreadable label map"),
        (lambda path: Image.new("L", (64, 48), 255).save(path), "all_ignored"),
    ],
)
def test_labels_that_cannot_be_used_are_a_row_with_a_reason(
    source, labelled, tmp_path, spoil, reason
):
    spoil(labelled.path(103))
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    setting = labelled.proposals.model_copy(update={"max_bad_fraction": 0.2})
    pairs = label_pairs(images, setting, tmp_path)
    (row,) = [row for row in pairs.table().to_pylist() if row["image_id"] == 103]
    assert row["noun"] is row["mask_counts"] is None and not row["kept"]
    assert row["drop_reason"].startswith(reason)
    assert pairs.stats["dropped"][reason.partition(":")[0]] == 1
    if reason.startswith("bad_labels"):
        with pytest.raises(OvsegError, match=r"1 of 9 items are bad.*003\.png: bad_labels"):
            strict = setting.model_copy(update={"max_bad_fraction": 0.05})
            run_stage(PROPOSALS, strict, {"images": images}, tmp_path / "strict")


def test_an_image_gone_since_it_was_listed(source, labelled, tmp_path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    (source.image_root / "002.png").unlink()
    setting = labelled.proposals.model_copy(update={"max_bad_fraction": 0.2})
    rows = label_pairs(images, setting, tmp_path).table().to_pylist()
    (row,) = [row for row in rows if row["image_id"] == 102]
    assert (row["noun"], row["drop_reason"]) == (None, "missing_file")


def test_what_a_person_has_to_mend_is_one_line(source, labelled, tmp_path, monkeypatch):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)

    def refused(pattern: str, **changes) -> None:
        setting = labelled.proposals.model_copy(update=changes)
        with pytest.raises(OvsegError, match=pattern) as error:
            run_stage(PROPOSALS, setting, {"images": images}, tmp_path / "runs")
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "runs").rglob("manifest.json"))

    refused(r"set data\.labels", labels=None)
    refused(r"nowhere is not a folder", labels=tmp_path / "nowhere")
    refused(r"panoptic\.json is missing", label_set="storybook")
    other = tmp_path / "other"
    (other / "images").mkdir(parents=True)
    (other / "labels").mkdir()
    (other / "classes.txt").write_text("wall\nwall \n")
    Image.new("RGB", (8, 8)).save(other / "images" / "a.png")
    refused(r"duplicate name 'wall'", labels=other)
    (other / "classes.txt").write_text("wall\nsky\n")
    refused(r"has labels for none of the 9 images", labels=other)
    twice = replace(read_prepared(other), classes=("wall", "wall "))
    monkeypatch.setitem(READERS, "other", lambda root: twice)
    refused(r"two classes are named 'wall'", labels=other)
    monkeypatch.delitem(READERS, "other")
    proposals = run_stage(PROPOSALS, source.proposals, {"images": images}, tmp_path)
    with pytest.raises(OvsegError, match="proposals from 'maskformer' have no labels"):
        run_stage(LABEL_PAIRS, TABLE, {"images": images, "proposals": proposals}, tmp_path)


def test_the_digest_covers_labels_and_classes(source, labelled):
    def digest(setting: ProposalsConfig = labelled.proposals) -> str:
        return GroundTruthSource(setting).weights["labels"]

    before = digest()
    assert digest(replace(labelled).proposals) == before
    image = labelled.folder / "images" / "004.png"
    image.unlink()
    Image.new("RGB", (5, 5)).save(image)
    assert digest() == before, "the images are those of the images table"
    Image.fromarray(blocks(77)).save(labelled.path(104))
    changed = digest()
    assert changed != before
    (labelled.folder / "classes.txt").write_text("\n".join(reversed(CLASSES)) + "\n")
    assert digest() not in (changed, before)


# --------------------------------------------------------------------------------------
# Nouns of captions


def test_nouns_get_the_ground_truth_mask_that_clip_likes_best(source, labelled, parts, tmp_path):
    setting = labelled.proposals.model_copy(update={"label_classes": ("dog", "wall-brick")})
    labelled.path(101).unlink()
    truth = run_stage(PROPOSALS, setting, {"images": parts["images"]}, tmp_path)
    pairing = source.pairing.model_copy(update={"source": "gt_noun"})
    pairs = run_stage(PAIRS, pairing, {**parts, "proposals": truth}, tmp_path)
    mined = run_stage(PAIRS, source.pairing, parts, tmp_path).table().to_pylist()
    rows = pairs.table().to_pylist()
    assert [(r["image_id"], r["noun"]) for r in rows] == [(r["image_id"], r["noun"]) for r in mined]
    assert {row["source"] for row in rows} == {"gt_noun"}
    assert not {row["pair_id"] for row in rows} & {row["pair_id"] for row in mined}
    kept = [row for row in rows if row["kept"]]
    assert kept
    for row in kept:
        expected = by_pixels(labelled.label_maps[row["image_id"]])[NAMES[row["proposal_id"]]]
        (mask,) = masks.decode([row["mask_counts"]], tuple(row["mask_size"]))
        assert np.array_equal(mask, expected)
        assert NAMES[row["proposal_id"]] in setting.label_classes
        assert row["proposal_score"] is None and -1 <= row["clip_similarity"] <= 1
        assert row["mentions"] and row["clip_model"]
    assert {row["drop_reason"] for row in rows if row["image_id"] == 101} == {"no_labels"}
    table = TableConfig(dataset="blocks", source="gt_noun")
    assert run_stage(PAIR_TABLE, table, {"pairs": pairs}, tmp_path).stats["kept"] == len(kept)


def test_masks_without_a_score_pass_its_gates(source, labelled, tmp_path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    gated = labelled.proposals.model_copy(update={"min_score": 0.5, "nms_iou": 0.1})
    proposals = run_stage(PROPOSALS, gated, {"images": images}, tmp_path)
    ungated = run_stage(PROPOSALS, labelled.proposals, {"images": images}, tmp_path)
    assert proposals.table() == ungated.table()
    small = gated.model_copy(update={"min_area_fraction": 0.2})
    dropped = run_stage(PROPOSALS, small, {"images": images}, tmp_path).stats["dropped"]
    assert dropped["small_area"] > 0


def test_settings_name_their_source():
    from ovseg.config.presets import load_preset

    config = load_preset("paper", {"mining.round": 2})
    assert isinstance(config.images, ImagesConfig) and isinstance(config.pairing, PairingConfig)
    assert [config.of_source(source).table for source in ("mined", "gt_label", "gt_noun")] == [
        TableConfig(dataset="coco-2017", round=2, source="mined"),
        TableConfig(dataset="coco-2017", round=0, source="gt_label"),
        TableConfig(dataset="coco-2017", round=2, source="gt_noun"),
    ]
    assert config.of_source("mined").proposals == config.proposals
    assert config.of_source("gt_noun").pairing.source == "gt_noun"
