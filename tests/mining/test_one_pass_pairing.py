"""Pairing with embedders that see an image once: their rows, their errors, the default's digest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.config.checks import check_heard
from ovseg.config.mining import PairingConfig
from ovseg.config.presets import load_preset
from ovseg.data import masks
from ovseg.errors import OvsegError
from ovseg.mining.nouns.embeddings import TEXTS
from ovseg.mining.pairs import embedding as pairing
from ovseg.mining.pairs.embedding import embed_images
from ovseg.mining.pairs.rows import Job
from ovseg.mining.pairs.stage import PAIRS
from ovseg.models.clip.load import load_clip
from ovseg.models.regions.embedders import region_embedder
from ovseg.models.regions.picture_embedders import MaskTokenEmbedder
from ovseg.stages.run import run_stage


def settings(source, **changes: object) -> PairingConfig:
    return source.pairing.model_copy(update=changes)


def test_mask_tokens_pair_as_their_embedder_says(source, parts, tiny, tmp_path: Path):
    config = settings(source, embedder="mask_tokens", image_size=64)
    rows = run_stage(PAIRS, config, parts, tmp_path / "runs").table().to_pylist()
    crops = run_stage(PAIRS, source.pairing, parts, tmp_path / "runs").table().to_pylist()
    assert [(row["image_id"], row["noun"]) for row in rows] == [
        (row["image_id"], row["noun"]) for row in crops
    ]
    assert rows[0]["config_digest"] == config.digest() != source.pairing.digest()

    proposals = [
        row
        for row in parts["proposals"].table().to_pylist()
        if row["image_id"] == 100 and row["kept"]
    ]
    image = np.array(Image.open(source.image_root / "000.png"))
    clip = load_clip(tiny.clip)
    embedder = MaskTokenEmbedder(clip, size=64)
    ours = [
        embeddings
        for _, embeddings in embed_images(
            [(Job(listed={"image_id": 100}, nouns=[], proposals=proposals), image)],
            embedder,
            config,
            device="cpu",
        )
    ]
    texts = clip.encode_texts([f"a photo of a {rows[0]['noun']}"]).detach().numpy()
    similarity = (texts @ np.asarray(ours[0]).T)[0]
    assert rows[0]["clip_similarity"] == pytest.approx(similarity.max(), abs=1e-5)
    at = [row["proposal_id"] for row in proposals].index(rows[0]["proposal_id"])
    assert similarity[at] == pytest.approx(similarity.max(), abs=1e-5)


def test_masks_are_embedded_in_parts_that_fit_in_memory(source, parts, monkeypatch, tmp_path):
    config = settings(source, embedder="mask_tokens")
    whole = run_stage(PAIRS, config, parts, tmp_path / "whole").table()
    monkeypatch.setattr(pairing, "MASK_PIXELS", 1)
    other = run_stage(PAIRS, config, parts, tmp_path / "parts").table()
    ours, theirs = (
        np.array(each["clip_similarity"].to_pylist(), dtype=float) for each in (whole, other)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_proposal_without_a_whole_place_is_not_paired(source, parts, tmp_path: Path):
    conv = {"clip": "storybook-conv"}
    texts_config = source.texts.model_copy(update=conv)
    texts = run_stage(TEXTS, texts_config, {"nouns": parts["nouns"]}, tmp_path / "runs")
    pooled = settings(source, **conv, embedder="mask_pooling", image_size=48)
    rows = run_stage(PAIRS, pooled, {**parts, "texts": texts}, tmp_path / "runs").table()
    assert set(rows["kept"].to_pylist()) == {True}
    small = np.zeros((2, 48, 64), dtype=bool)
    small[0, 3, 4], small[1] = True, True
    counts = masks.encode(small)
    job = Job(
        listed={"image_id": 1},
        nouns=[],
        proposals=[{"proposal_id": number, "mask_counts": counts[number]} for number in range(2)],
    )
    image = np.array(Image.open(source.image_root / "000.png"))
    for whole_places, expected in ((False, [0, 1]), (True, [1])):
        config = replace_places(pooled, whole_places)
        embedder = region_embedder(config, clip="storybook-conv", device="cpu")
        decoded = [(replace(job), image)]
        ((found, embeddings),) = embed_images(decoded, embedder, config, device="cpu")
        assert [row["proposal_id"] for row in found.proposals] == expected
        assert len(embeddings) == len(expected)


def replace_places(config: PairingConfig, whole_places: bool) -> PairingConfig:
    return config.model_copy(update={"whole_places": whole_places})


def test_an_embedder_that_does_not_fit_is_refused_in_one_line(source, parts, tmp_path: Path):
    with pytest.raises(OvsegError, match=r"choose mining\.pairing\.clip=storybook-conv"):
        run_stage(PAIRS, settings(source, embedder="mask_pooling"), parts, tmp_path)
    odd = settings(source, embedder="mask_tokens", image_size=50)
    with pytest.raises(OvsegError, match=r"set mining\.pairing\.image_size to a multiple"):
        run_stage(PAIRS, odd, parts, tmp_path)
    with pytest.raises(OvsegError, match=r"mining\.pairing\.embedder=pixel_pooling .*: choose"):
        run_stage(PAIRS, settings(source, embedder="pixel_pooling"), parts, tmp_path)
    with pytest.raises(OvsegError, match=r"setting mining\.pairing\.image_size has no effect"):
        overrides = {"mining.pairing.image_size": 64}
        check_heard([load_preset("storybook", overrides)], overrides)


def test_the_default_is_not_part_of_the_digest():
    config = PairingConfig()
    assert not {"embedder", "image_size", "whole_places"} & set(config.result_fields())
    changed = config.model_copy(update={"embedder": "mask_tokens"})
    assert changed.result_fields()["embedder"] == "mask_tokens"
    assert changed.digest() != config.digest()
