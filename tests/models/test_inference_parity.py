"""Inference from the logits on, against what the official implementation recorded of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from ovseg.models import ensemble as formulas
from ovseg.models.ensemble import (
    COSINE_SCALE,
    aggregate,
    best_masks,
    class_probabilities,
    ensemble,
    label_map,
    resized_maps,
)
from ovseg.models.preprocessing import mask_probabilities

FOLDER = "ensemble_and_inference"
WEIGHTS = ("0.7", "0.6", "0.45", "0.75", "1", "0")
DEMO_THRESHOLD = 0.35


@pytest.fixture(scope="module")
def golden(reference_data: Path) -> dict[str, Tensor]:
    return load_file(reference_data / "golden" / FOLDER / "io.safetensors")


def p_maskformer(golden: dict[str, Tensor]) -> Tensor:
    return golden["mask_cls_logits"].softmax(-1)[:, :-1]


def p_clip(golden: dict[str, Tensor], valid: Tensor, scale: float = COSINE_SCALE) -> Tensor:
    features = F.normalize(golden["image_features_raw"][valid], dim=-1)
    texts = F.normalize(golden["text_features_raw"], dim=-1)
    return class_probabilities(features, texts[:-1], scale=scale)


@pytest.mark.parametrize("chosen", ["all", "some", "none", "by_thr0.5"])
def test_ensembles(agrees, golden: dict[str, Tensor], chosen: str, monkeypatch):
    monkeypatch.setattr(formulas, "SCORE_BUDGET", 1500)
    masks = golden["mask_pred_logits"].sigmoid()
    valid = golden[f"valid.{chosen}"]
    if chosen == "by_thr0.5":
        assert torch.equal((masks > 0.5).flatten(1).any(1), valid)
    for weight in WEIGHTS:
        name = f"valid_{chosen}.w{weight}"
        scores, taken = ensemble(p_maskformer(golden), p_clip(golden, valid), valid, float(weight))
        maps = aggregate(scores, masks[taken])
        case = f"{FOLDER}/lambda {weight}, valid masks: {chosen}"
        agrees(case, "class maps", maps, golden[f"semseg.{name}"], tolerance=1e-6)
        labels = label_map(scores, masks[taken], (24, 30))
        agrees(case, "label map", labels, golden[f"argmax.{name}"], tolerance=0)
        if (matrix := golden.get(f"class_matrix.{name}")) is not None:
            agrees(case, "class scores of the proposals", scores, matrix, tolerance=1e-6)


def test_maskformer_alone(agrees, golden: dict[str, Tensor]):
    mode, none = "maskformer_only", golden["valid.none"]
    alone, taken = ensemble(p_maskformer(golden), p_clip(golden, none), none, 0.7, mode=mode)
    maps = aggregate(alone, golden["mask_pred_logits"].sigmoid()[taken])
    case = f"{FOLDER}/without the CLIP branch"
    agrees(case, "class maps", maps, golden["semseg.no_clip_ensemble"], tolerance=1e-6)


@pytest.mark.parametrize("scale", ["1", "14.2857", "100"])
def test_temperatures(agrees, golden: dict[str, Tensor], scale: str):
    every = torch.ones_like(golden["valid.some"])
    case = f"{FOLDER}/temperature {scale}"
    expected = golden[f"sim_logits.T{scale}"][:, :-1].softmax(-1)
    ours = p_clip(golden, every, float(scale))
    agrees(case, "class probabilities of CLIP", ours, expected, tolerance=1e-6)
    if (maps := golden.get(f"semseg.valid_some.w0.7.T{scale}")) is not None:
        valid = golden["valid.some"]
        scores, _ = ensemble(p_maskformer(golden), ours[valid], valid, 0.7)
        ours = aggregate(scores, golden["mask_pred_logits"].sigmoid())
        agrees(case, "class maps", ours, maps, tolerance=1e-6)


def test_underflow(agrees, recording):
    golden = load_file(recording(f"{FOLDER}/underflow.safetensors"))
    p_of_clip = golden["clip_logits"][:, :-1].softmax(-1)
    for weight in ("0.7", "1"):
        every = torch.ones(2, dtype=torch.bool)
        scores, _ = ensemble(p_maskformer(golden), p_of_clip, every, float(weight))
        maps = aggregate(scores, golden["mask_pred_logits"].sigmoid())
        expected = golden[f"semseg.w{weight}"]
        agrees(f"{FOLDER}/underflow, lambda {weight}", "class maps", maps, expected, tolerance=1e-6)


@pytest.mark.parametrize(
    ("chosen", "weight"), [("all", "0"), ("some", "0"), ("by_thr0.5", "0"), ("all", "0.7")]
)
def test_the_demo(agrees, golden: dict[str, Tensor], chosen: str, weight: str):
    masks, valid = golden["mask_pred_logits"].sigmoid(), golden[f"valid.{chosen}"]
    scores, taken = ensemble(p_maskformer(golden), p_clip(golden, valid), valid, float(weight))
    kept, binary = best_masks(scores, masks[taken], valid[taken], threshold=DEMO_THRESHOLD)
    name = f"valid_{chosen}.w{weight}.thr0.35"
    case = f"{FOLDER}/demo, lambda {weight}, valid masks: {chosen}"
    maps = aggregate(kept, binary)
    agrees(case, "class maps", maps, golden[f"demo.{name}"], tolerance=1e-6)
    labels = label_map(kept, binary, (24, 30))
    agrees(case, "label map", labels, golden[f"demo_argmax.{name}"], tolerance=0)
    blank = label_map(kept, binary, (24, 30), empty=255) == 255
    expected = golden[f"demo.{name}"][0] == 0
    agrees(case, "pixels under no mask", blank, expected, tolerance=0)


def test_the_demo_where_it_fails_upstream(golden: dict[str, Tensor]):
    """A weight above 0 with invalid masks is an index error there; here the valid ones decide."""
    masks, valid = golden["mask_pred_logits"].sigmoid(), golden["valid.by_thr0.5"]
    assert not valid.all()
    scores, taken = ensemble(p_maskformer(golden), p_clip(golden, valid), valid, 0.7)
    kept, binary = best_masks(scores, masks[taken], valid[taken], threshold=0.5)
    best = scores[valid].argmax(0).unique()
    assert torch.equal(kept, scores[valid][best])
    assert torch.equal(binary, (masks[valid][best] > 0.5).float())


def test_the_demo_with_others(agrees, golden: dict[str, Tensor]):
    valid = golden["valid.some"]
    of_clip = golden["demo_others.clip_logits"][valid][:, :-1].softmax(-1)
    of_maskformer = golden["demo_others.mask_cls_logits"].softmax(-1)[:, :-1]
    scores, taken = ensemble(of_maskformer, of_clip, valid, 0.0)
    masks = golden["mask_pred_logits"].sigmoid()[taken]
    kept, binary = best_masks(scores, masks, valid[taken], threshold=DEMO_THRESHOLD, skip_last=True)
    agrees(
        f"{FOLDER}/demo, one name and others",
        "class maps",
        aggregate(kept, binary),
        golden["demo_others.valid_some.w0.thr0.35"],
        tolerance=1e-6,
    )


@pytest.mark.parametrize(
    "name",
    [
        "crop32x40.to32x40",
        "crop27x37.to54x70",
        "crop27x37.to13x17",
        "crop30x33.to30x33",
        "crop27x37.to50x37",
    ],
)
def test_post_processing(agrees, golden: dict[str, Tensor], name: str):
    crop, size = (
        tuple(map(int, part.split("x"))) for part in name.removeprefix("crop").split(".to")
    )
    maps = resized_maps(golden["post.input"][:, : crop[0], : crop[1]], size)
    what = "class maps at the original size"
    agrees(f"{FOLDER}/post-processing {name}", what, maps, golden[f"post.{name}"], tolerance=1e-6)


@pytest.mark.parametrize("size", [(32, 40), (29, 41)])
def test_mask_logits_at_the_padded_size(agrees, golden: dict[str, Tensor], size: tuple[int, int]):
    name = f"mask_upsample.to{size[0]}x{size[1]}"
    ours = [mask_probabilities(each, size, size, size) for each in golden["mask_upsample.input"]]
    expected = golden[name].sigmoid()
    case = f"{FOLDER}/{name}"
    agrees(case, "mask probabilities", torch.stack(ours), expected, tolerance=1e-6)
