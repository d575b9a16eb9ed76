"""Pairing: rows of one image, the whole stage with a real (random) CLIP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.config.mining import PairingConfig
from ovseg.data import masks
from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.mining.nouns.embeddings import TEXTS, read_texts
from ovseg.mining.pairs import embedding as pairing
from ovseg.mining.pairs.embedding import embed_proposals
from ovseg.mining.pairs.rows import Job, pair_id
from ovseg.mining.pairs.stage import PAIRS, pair_image
from ovseg.models.clip.load import load_clip
from ovseg.models.regions import embedding
from ovseg.models.regions.crops import region_crops
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.schema import PAIRS as SCHEMA

# --------------------------------------------------------------------------------------
# One image


def job(nouns: list[str], proposals: int) -> Job:
    listed = {
        "image_id": 7,
        "image_path": "a.png",
        "image_sha256": "00",
        "image_phash": 1,
        "width": 8,
        "height": 6,
        "kept": True,
    }
    return Job(
        listed=listed,
        nouns=[{"noun": noun, "mentions": [], "head": None, "parser": "p"} for noun in nouns],
        proposals=[
            {
                "proposal_id": 10 * number,
                "mask_size": [6, 8],
                "mask_counts": b"%d" % number,
                "bbox_xyxy": [0, 0, 1, 1],
                "area_fraction": 0.1 * (number + 1),
                "proposal_score": 0.9 - 0.2 * number,
                "proposal_model": "m",
            }
            for number in range(proposals)
        ],
    )


TEXTS_NE = np.array([[1, 0], [0, 1]], dtype=np.float32)
REGIONS_QE = np.array([[0.6, 0.8], [0.8, 0.6], [0.96, 0.28]], dtype=np.float32)


def test_rows_of_an_image():
    rows = pair_image(job(["boat", "sea"], 3), TEXTS_NE, REGIONS_QE, PairingConfig())
    assert [row["proposal_id"] for row in rows] == [20, 0]
    assert [row["clip_similarity"] for row in rows] == pytest.approx([0.96, 0.8])
    assert [row["clip_margin"] for row in rows] == pytest.approx([0.16, 0.2])
    assert [row["noun_rank"] for row in rows] == [1, 1]
    assert all(row["mutual_best"] and row["kept"] and row["proposal_rank"] == 1 for row in rows)
    assert rows[0]["area_fraction"] == pytest.approx(0.3)
    assert rows[0]["image_path"] == "a.png"


def test_a_head_and_its_compound_share_a_proposal():
    texts = np.array([[1, 0], [0.8, 0.6]], dtype=np.float32)
    rows = pair_image(job(["fence", "picket fence"], 1), texts, REGIONS_QE[:1], PairingConfig())
    assert [row["proposal_id"] for row in rows] == [0, 0]
    assert [row["mutual_best"] for row in rows] == [False, True]
    assert [row["clip_margin"] for row in rows] == [None, None]
    gated = PairingConfig(mutual_best=True, min_margin=0.5)
    rows = pair_image(job(["fence", "picket fence"], 1), texts, REGIONS_QE[:1], gated)
    assert [row["drop_reason"] for row in rows] == ["not_mutual_best", None], "no rival, no margin"


@pytest.mark.parametrize(
    ("gate", "reasons"),
    [
        ({"min_similarity": 0.9}, [None, "low_similarity"]),
        ({"min_margin": 0.18}, ["low_margin", None]),
        ({"min_proposal_score": 0.6}, ["low_proposal_score", None]),
        ({"min_area_fraction": 0.2}, [None, "small_area"]),
        ({"min_similarity": 0.9, "min_area_fraction": 0.5}, ["small_area", "low_similarity"]),
    ],
)
def test_gates(gate: dict, reasons: list):
    rows = pair_image(job(["boat", "sea"], 3), TEXTS_NE, REGIONS_QE, PairingConfig(**gate))
    assert [row["drop_reason"] for row in rows] == reasons
    assert [row["kept"] for row in rows] == [reason is None for reason in reasons]


def test_pair_ids_depend_on_grain_and_mask():
    row = {
        "source": "mined",
        "dataset": "d",
        "round": 0,
        "image_id": 1,
        "noun": "boat",
        "mask_size": [2, 2],
        "mask_counts": b"04",
        "clip_similarity": 0.1,
    }
    assert pair_id(row) == pair_id({**row, "clip_similarity": 0.2})
    assert len(pair_id(row)) == 16
    changes = [{"noun": "sea"}, {"round": 1}, {"mask_counts": b"13"}, {"mask_size": [1, 4]}]
    changes += [{"source": "gt_noun"}, {"mask_counts": None, "mask_size": None}]
    assert len({pair_id({**row, **change}) for change in [{}, *changes]}) == 7


# --------------------------------------------------------------------------------------
# The stage


def test_rows_of_the_stage(source, parts: dict[str, Manifest], tiny, tmp_path: Path):
    pairs = run_stage(PAIRS, source.pairing, parts, tmp_path / "runs")
    assert pairs.plan == parts["images"].plan
    table = pairs.table()
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    grain = [(row["image_id"], row["noun"]) for row in rows]
    assert grain == sorted(set(grain))
    wanted = {
        (row["image_id"], row["noun"]) for row in parts["nouns"].table().to_pylist() if row["kept"]
    }
    assert set(grain) == wanted
    assert len({row["pair_id"] for row in rows}) == len(rows)
    boat = rows[0]
    assert [mention["surface"] for mention in boat["mentions"]] == ["boat", "boats"]
    assert boat["config_digest"] == source.pairing.digest()
    assert {row["shard"] for row in rows} == {0, 1, 2, 3}
    assert pairs.stats["pairs"] == len(rows) and pairs.stats["images_without_nouns"] == 1

    # the first image once more, without the stage
    clip = load_clip(tiny.clip)
    proposals = [
        row
        for row in parts["proposals"].table().to_pylist()
        if row["image_id"] == 100 and row["kept"]
    ]
    decoded = masks.decode([row["mask_counts"] for row in proposals], (48, 64))
    image = np.array(Image.open(source.image_root / "000.png"))
    crops = region_crops(image, decoded, size=32, mean=clip.pixel_mean, std=clip.pixel_std)
    with torch.inference_mode():
        regions = clip.encode_regions(crops.pixels, crops.masks)
        texts = clip.encode_texts(["a photo of a boat"])
    similarity = (texts @ regions.T)[0].numpy()
    assert boat["clip_similarity"] == pytest.approx(similarity.max(), abs=1e-5)
    at = [row["proposal_id"] for row in proposals].index(boat["proposal_id"])
    assert similarity[at] == pytest.approx(similarity.max(), abs=1e-5)
    assert boat["mask_counts"] == proposals[at]["mask_counts"]


def test_mask_prompts_are_used_where_the_clip_has_them(source, parts, tiny, tmp_path: Path):
    texts_config = source.texts.model_copy(update={"clip": tiny.prompted_clip})
    texts = run_stage(TEXTS, texts_config, {"nouns": parts["nouns"]}, tmp_path / "runs")
    config = source.pairing.model_copy(update={"clip": tiny.prompted_clip})
    prompted = run_stage(PAIRS, config, {**parts, "texts": texts}, tmp_path / "runs")
    plain = run_stage(PAIRS, source.pairing, parts, tmp_path / "runs")
    ours, theirs = (m.table(["clip_similarity"])["clip_similarity"] for m in (prompted, plain))
    assert not np.allclose(ours.to_numpy(), theirs.to_numpy(), atol=1e-3)


def test_batches_do_not_change_the_rows(source, parts, tiny):
    """Regions of several images share a batch, one image's are spread over several."""
    clip = load_clip(tiny.clip)
    images = parts["images"].table().to_pylist()
    decoded = []
    for listed in images[:4]:
        rows = [
            row
            for row in parts["proposals"].table().to_pylist()
            if row["image_id"] == listed["image_id"] and row["kept"]
        ]
        image = np.array(Image.open(source.image_root / listed["image_path"]))
        decoded.append((Job(listed=listed, nouns=[], proposals=rows), image))
    found = []
    for size in (1, 4, 7, 1000):
        config = source.pairing.model_copy(update={"batch_size": size})
        embedded = list(embed_proposals(iter(decoded), clip, config, device="cpu"))
        assert [job.listed["image_id"] for job, _ in embedded] == [100, 101, 102, 103]
        found.append([embeddings for _, embeddings in embedded])
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            assert np.allclose(one, another, atol=1e-5)


def test_bfloat16_pairs_nearly_as_float32(source, parts, tiny, tmp_path: Path):
    exact, half = (
        run_stage(
            PAIRS,
            source.pairing.model_copy(update={"precision": name}),
            parts,
            tmp_path / name,
        ).table(["noun", "clip_similarity"])
        for name in ("fp32", "bf16")
    )
    assert exact["noun"].equals(half["noun"])
    ours, theirs = (
        np.array(each["clip_similarity"].to_pylist(), dtype=float) for each in (exact, half)
    )
    assert np.nanmax(np.abs(ours - theirs)) < 0.02 and not np.array_equal(ours, theirs)


def test_masks_of_large_images_are_cut_out_in_parts(source, parts, tiny, monkeypatch, tmp_path):
    whole = run_stage(PAIRS, source.pairing, parts, tmp_path / "whole").table()
    monkeypatch.setattr(pairing, "MASK_PIXELS", 1)
    calls: list[int] = []

    def count(image, masks_qhw, **options):
        calls.append(len(masks_qhw))
        return region_crops(image, masks_qhw, **options)

    monkeypatch.setattr(embedding, "region_crops", count)
    assert run_stage(PAIRS, source.pairing, parts, tmp_path / "parts").table().equals(whole)
    assert set(calls) == {1}


def test_texts_of_other_nouns_are_refused(source, parts, tmp_path: Path):
    parents = {**parts["texts"].parents, "nouns": "0" * 16}
    stale = parts["texts"].model_copy(update={"parents": parents})
    with pytest.raises(OvsegError, match="texts belong to other nouns"):
        stage_folder(PAIRS, source.pairing, {**parts, "texts": stale}, tmp_path)


def test_nouns_without_a_region_are_rows(source, mine, tmp_path: Path):
    (source.image_root / "000.png").write_bytes(b"no image")
    strict = source.proposals.model_copy(update={"min_area_fraction": 1.1})
    images = source.images.model_copy(update={"max_bad_fraction": 1.0})
    changed = type(source)(**{**vars(source), "proposals": strict, "images": images})
    parts = mine(changed, tmp_path / "runs")
    pairs = run_stage(PAIRS, source.pairing, parts, tmp_path / "runs")
    rows = pairs.table().to_pylist()
    assert rows and not any(row["kept"] for row in rows)
    reasons = {row["image_id"]: row["drop_reason"] for row in rows}
    assert reasons.pop(100) == "image_dropped"
    assert set(reasons.values()) == {"no_proposal"}
    assert all(row["mask_counts"] is None and row["clip_similarity"] is None for row in rows)
    assert len({row["pair_id"] for row in rows}) == len(rows)


def test_texts_are_sorted_and_of_length_one(source, parts, tiny):
    rows, embeddings = read_texts(parts["texts"])
    assert list(rows) == sorted(rows) and "picket fence" in rows and "front" not in rows
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    with torch.inference_mode():
        expected = load_clip(tiny.clip).encode_texts(["a photo of a picket fence"])[0].numpy()
    assert np.allclose(embeddings[rows["picket fence"]], expected, atol=1e-5)
    assert parts["texts"].table()["text"].to_pylist()[rows["sea"]] == "a photo of a sea"


def as_checkpoint(folder: str) -> Manifest:
    """A finished training stage whose payload is this CLIP."""
    path = Path(folder)
    record = ShardRecord(index=0, path=path.name, rows=1, bytes=1, sha256=file_sha256(path))
    return Manifest(
        stage="checkpoints",
        schema_version=1,
        config={},
        config_digest="",
        code_digest="",
        parents={},
        weights={},
        plan=ShardPlan.single("0"),
        shards=(record,),
        stats={},
        folder=path.parent,
    )


def test_a_further_round_takes_the_checkpoint(source, parts, tiny, tmp_path: Path):
    adapted = {"checkpoint": as_checkpoint(tiny.prompted_clip)}
    config = source.pairing.model_copy(update={"round": 1})
    with pytest.raises(OvsegError, match="another CLIP"):
        run_stage(PAIRS, config, {**parts, **adapted}, tmp_path / "runs")
    texts = run_stage(TEXTS, source.texts, {"nouns": parts["nouns"], **adapted}, tmp_path / "runs")
    again = run_stage(PAIRS, config, {**parts, "texts": texts, **adapted}, tmp_path / "runs")
    (label,) = set(again.table()["clip_model"].to_pylist())
    assert label.startswith("checkpoint@")
    assert set(again.table()["round"].to_pylist()) == {1}
    assert "checkpoint" in again.parents


def test_parts_that_do_not_belong_together(source, parts, tmp_path: Path):
    config = source.pairing.model_copy(update={"template": "{}"})
    with pytest.raises(OvsegError, match="template"):
        stage_folder(PAIRS, config, parts, tmp_path)
    shorter = source.images.model_copy(update={"limit": 5})
    from ovseg.data.listing import LIST_IMAGES

    images = run_stage(LIST_IMAGES, shorter, {}, tmp_path / "runs")
    with pytest.raises(OvsegError, match="nouns belong to other images"):
        stage_folder(PAIRS, source.pairing, {**parts, "images": images}, tmp_path)


def test_an_image_that_went_missing_is_a_reason(source, parts, tmp_path: Path):
    (source.image_root / "001.png").unlink()
    config = source.pairing.model_copy(update={"max_bad_fraction": 0.5})
    rows = run_stage(PAIRS, config, parts, tmp_path / "runs").table().to_pylist()
    assert {row["drop_reason"] for row in rows if row["image_id"] == 101} == {"missing_file"}
    assert all(row["kept"] for row in rows if row["image_id"] != 101)


def test_two_runs_are_equal_to_the_byte(source, parts, tmp_path: Path):
    one = run_stage(PAIRS, source.pairing, parts, tmp_path / "one")
    other = run_stage(PAIRS, source.pairing, parts, tmp_path / "two")
    assert one.folder.name == other.folder.name
    assert one.content_digest == other.content_digest
    texts = [(m.folder / "manifest.json").read_bytes() for m in (one, other)]
    assert texts[0] == texts[1]
