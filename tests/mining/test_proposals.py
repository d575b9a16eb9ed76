"""The proposals stage: masks at the image's own size, gates, unreadable images."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.config.mining import ProposalsConfig
from ovseg.config.registry import SOURCES
from ovseg.data import masks
from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError
from ovseg.mining.proposals import stage as proposals_stage
from ovseg.mining.proposals.sources import network_masks
from ovseg.mining.proposals.stage import PROPOSALS, proposal_rows
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.preprocessing import InputSettings, InputSize
from ovseg.models.proposal import Proposals
from ovseg.models.proposals.per_image import ImageProposals
from ovseg.stages.run import run_stage
from ovseg.stages.schema import PROPOSALS as SCHEMA

SIZE = (10, 20)


def rows(masks_qhw: np.ndarray, scores: list[float], **gates: object) -> list[dict]:
    return proposal_rows(masks.encode(masks_qhw), scores, SIZE, ProposalsConfig(**gates))


def three_masks() -> np.ndarray:
    """The left half, nearly the same, and nothing."""
    found = np.zeros((3, *SIZE), dtype=bool)
    found[0, :, :10] = True
    found[1, 1:, :10] = True
    return found


def test_by_default_only_empty_masks_are_dropped():
    found = rows(three_masks(), [0.2, 0.9, 1.0])
    assert [row["drop_reason"] for row in found] == [None, None, "empty_mask"]
    assert [row["proposal_id"] for row in found] == [0, 1, 2]
    assert found[0]["bbox_xyxy"] == [0, 0, 10, 10]
    assert found[0]["area_fraction"] == 0.5
    assert found[2]["bbox_xyxy"] == [0, 0, 0, 0]
    decoded = masks.decode([row["mask_counts"] for row in found], SIZE)
    assert np.array_equal(decoded, three_masks())


def test_gates_name_their_reason():
    scores = [0.2, 0.9, 1.0]
    assert rows(three_masks(), scores, min_score=0.5)[0]["drop_reason"] == "low_score"
    small = rows(three_masks(), scores, min_area_fraction=0.46)
    assert [row["drop_reason"] for row in small] == [None, "small_area", "empty_mask"]
    overlapping = rows(three_masks(), scores, nms_iou=0.8)
    assert [row["drop_reason"] for row in overlapping] == ["overlap", None, "empty_mask"]
    spared = rows(three_masks(), scores, nms_iou=0.8, min_area_fraction=0.46)
    assert spared[0]["kept"], "a dropped proposal suppresses nobody"


class Painter:
    """A proposal network whose soft masks are given: at any size, columns right of the middle."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def propose(self, images, *, output, size):
        self.asked.append(output)
        found = []
        for image in images:
            small = size.resize(image, InputSettings())
            height, width = (image if output == "original" else small).shape[:2]
            ramp = ((torch.arange(width) + 0.5) / width).expand(3, height, width).clone()
            ramp[2] = 0.5
            scores = torch.tensor([0.1, 0.2, 0.3])
            found.append(Proposals(image=small, masks=ramp, scores=scores))
        return found


def test_masks_have_the_image_s_own_size():
    config = ProposalsConfig(short_side=16, max_side=64)
    small = np.zeros((12, 16, 3), dtype=np.uint8)
    large = np.zeros((48, 90, 3), dtype=np.uint8)
    network = Painter()
    found = network_masks(network, [small, large, small], config)
    assert sorted(network.asked) == ["original", "resized"]
    sizes = [(12, 16), (48, 90), (12, 16)]
    for (counts, scores, *_), (height, width) in zip(found, sizes, strict=True):
        decoded = masks.decode(counts, (height, width))
        expected = np.zeros((height, width), dtype=bool)
        expected[:, width // 2 :] = True
        assert np.array_equal(decoded[0], expected)
        assert not decoded[2].any(), "a pixel at the threshold itself is outside"
        assert scores == pytest.approx([0.1, 0.2, 0.3])


def test_rows_of_the_stage(source, tiny, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    proposals = run_stage(PROPOSALS, source.proposals, {"images": images}, tmp_path)
    assert proposals.plan == images.plan
    table = proposals.table()
    assert table.schema.equals(SCHEMA)
    found = table.to_pylist()
    keys = [(row["image_id"], row["proposal_id"]) for row in found]
    assert keys == sorted(set(keys))
    (dropped,) = [row for row in found if row["image_id"] == 107]
    assert (dropped["proposal_id"], dropped["drop_reason"]) == (-1, "image_dropped")
    assert sum(row["image_id"] == 100 for row in found) == 6
    network = load_maskformer(tiny.maskformer, "cpu")
    pixels = np.array(Image.open(source.image_root / "000.png"))
    (proposed,) = network.propose([pixels], size=InputSize(48, 96))
    mine = [row for row in found if row["image_id"] == 100]
    decoded = masks.decode([row["mask_counts"] for row in mine], (48, 64))
    assert np.array_equal(decoded, (proposed.masks > 0.5).numpy())
    assert [row["proposal_score"] for row in mine] == pytest.approx(proposed.scores.tolist())
    assert {row["proposal_model"] for row in found} == {f"maskformer@{network.digest[:8]}"}
    assert proposals.stats["n"] == 9 and proposals.stats["bad"] == 0
    assert proposals.stats["proposals"] == 54


def test_batches_and_workers_do_not_change_the_rows(source, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    tables = [
        run_stage(
            PROPOSALS,
            source.proposals.model_copy(update=changes),
            {"images": images},
            tmp_path / name,
        ).table()
        for name, changes in (
            ("one", {}),
            ("two", {"batch_size": 1}),
            ("three", {"decode_workers": 1}),
        )
    ]
    columns = ["image_id", "proposal_id", "mask_counts", "kept"]
    assert tables[0].select(columns) == tables[1].select(columns)
    assert tables[0] == tables[2]


@pytest.mark.parametrize("ahead", [0, 1, 10_000])
def test_encoding_behind_the_network_does_not_change_a_byte(
    ahead, source, tmp_path: Path, monkeypatch
):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    gated = source.proposals.model_copy(update={"nms_iou": 0.7, "min_area_fraction": 0.1})
    found = []
    for most in (proposals_stage.PIXELS_AHEAD, ahead):
        monkeypatch.setattr(proposals_stage, "PIXELS_AHEAD", most)
        found.append(run_stage(PROPOSALS, gated, {"images": images}, tmp_path / str(most)))
    assert found[0].content_digest == found[1].content_digest
    assert found[0].text() == found[1].text()
    waits = json.loads((found[1].folder / "run.json").read_text())["waits"]
    assert {"decode", "device", "write"} <= set(waits)


def test_an_error_while_encoding_is_the_stage_s_and_leaves_nothing(
    source, tmp_path: Path, monkeypatch
):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    encode, calls = masks.encode, iter(range(100))

    def broken(masks_qhw):
        if next(calls) == 2:
            raise MemoryError("of the third image")
        return encode(masks_qhw)

    monkeypatch.setattr(proposals_stage.masks, "encode", broken)
    with pytest.raises(MemoryError, match="of the third image"):
        run_stage(PROPOSALS, source.proposals, {"images": images}, tmp_path)
    assert not [each for each in threading.enumerate() if each.name.startswith("encode")]
    assert not list((tmp_path / "proposals").rglob("shard-00000*"))
    run_stage(PROPOSALS, source.proposals, {"images": images}, tmp_path)


def test_images_gone_since_they_were_listed(source, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    (source.image_root / "001.png").unlink()
    Image.new("RGB", (9, 9)).save(source.image_root / "004.png")
    with pytest.raises(OvsegError, match=r"2 of 9 .*001\.png: missing_file"):
        run_stage(PROPOSALS, source.proposals, {"images": images}, tmp_path)
    config = source.proposals.model_copy(update={"max_bad_fraction": 0.5})
    found = run_stage(PROPOSALS, config, {"images": images}, tmp_path).table().to_pylist()
    reasons = {row["image_id"]: row["drop_reason"] for row in found if row["proposal_id"] < 0}
    assert reasons == {101: "missing_file", 104: "changed", 107: "image_dropped"}


def test_a_wrong_folder_is_said_at_once_and_leaves_nothing(source, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    for root in (None, tmp_path / "nowhere", tmp_path):
        config = source.proposals.model_copy(update={"image_root": root})
        with pytest.raises(OvsegError, match=r"set data\.images"):
            run_stage(PROPOSALS, config, {"images": images}, tmp_path)
    assert not list((tmp_path / "proposals").rglob("shard-*"))
    run_stage(PROPOSALS, source.proposals, {"images": images}, tmp_path)


@pytest.mark.parametrize(
    ("proposing", "label"),
    [
        ({"source": "slic"}, "slic"),
        ({"source": "clusters"}, "clusters"),
        ({"source": "felzenszwalb", "segments": "instance"}, "felzenszwalb"),
        ({"source": "maskformer", "segments": "semantic"}, "maskformer"),
    ],
)
def test_any_source_gives_rows_and_batches_do_not_change_them(
    proposing, label, source, tiny, tmp_path: Path
):
    if label == "clusters":
        proposing = {**proposing, "maskformer": tiny.clip}  # whose patches are clustered
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    config = source.proposals.model_copy(update=proposing)
    whole = run_stage(PROPOSALS, config, {"images": images}, tmp_path)
    rows = whole.table().to_pylist()
    kept = [row for row in rows if row["kept"]]
    assert len({row["image_id"] for row in kept}) == 9
    assert {row["proposal_model"].partition("@")[0] for row in rows} == {label}
    single = config.model_copy(update={"batch_size": 1})
    again = run_stage(PROPOSALS, single, {"images": images}, tmp_path / "again")
    columns = ["image_id", "proposal_id", "mask_counts", "kept"]
    assert again.table().select(columns) == whole.table().select(columns)
    plain = source.proposals
    assert PROPOSALS.weights(config, {}) != PROPOSALS.weights(plain, {})


def test_an_image_of_which_nothing_is_proposed_has_a_row(source, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    config = source.proposals.model_copy(update={"source": "nothing"})
    SOURCES["nothing"] = Nothing
    try:
        rows = run_stage(PROPOSALS, config, {"images": images}, tmp_path).table().to_pylist()
    finally:
        del SOURCES["nothing"]
    reasons = {row["image_id"]: (row["proposal_id"], row["drop_reason"]) for row in rows}
    assert reasons == {i: (-1, "no_query") for i in range(100, 110) if i != 107} | {
        107: (-1, "image_dropped")
    }


class Nothing:
    """A network that never finds anything, through `network_masks` as all of them."""

    label, weights = "nothing@00000000", {}

    def __init__(self, config: ProposalsConfig) -> None:
        self.config = config

    def propose(self, batch):
        return network_masks(Blind(digest="0"), [image for _, image in batch], self.config)


class Blind(ImageProposals):
    def masks_of(self, image):
        return torch.zeros(0, 4, 4), torch.zeros(0)


def test_bfloat16_masks_are_nearly_those_of_float32(tiny_maskformer):
    images = [
        np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8) for seed in (0, 1)
    ]
    network = load_maskformer(str(tiny_maskformer))
    found = [
        network_masks(
            network,
            images,
            ProposalsConfig(device="cpu", precision=precision, short_side=48, max_side=64),
        )
        for precision in ("fp32", "bf16")
    ]
    for exact, half in zip(*found, strict=True):
        size = (48, 64)
        ours, theirs = (masks.decode(list(one.counts), size) for one in (exact, half))
        assert (ours == theirs).mean() > 0.97
        assert np.allclose(exact.scores, half.scores, atol=0.05)
