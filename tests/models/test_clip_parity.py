"""Mask-adapted CLIP against recordings of the official one: towers, prompts, texts, adapter."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.config.registry import TEMPLATES
from ovseg.models.checkpoints.clip_names import fp16_rounded
from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.prompted_tower import patch_masks
from ovseg.models.ensemble import COSINE_SCALE
from ovseg.models.regions.crops import region_crops
from ovseg.models.texts.templates import fill_templates, text_embeddings

VISUAL, TEXT, ADAPTER = "clip_visual_mask_prompt", "clip_text", "adapter"


def with_token_rows(state: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """The state with its whole token embedding, of which only some rows are recorded."""
    table = torch.zeros(49408, width)
    rows = state.pop("token_embedding.weight.rows_index")
    table[rows] = state.pop("token_embedding.weight.rows_value")
    return {**state, "token_embedding.weight": table}


# ---------------------------------------------------------------------------------- image tower


def tiny_clip(**vision: int) -> MaskAdaptedCLIP:
    """A CLIP with random weights and open_clip's own vocabulary."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}
    return create_clip(
        {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    ).eval()


def recorded_tower(folder: Path, case: str, layers: int) -> MaskAdaptedCLIP:
    weights = load_file(folder / f"{case}.weights.safetensors")
    model = tiny_clip(image_size=32, patch_size=8, width=64, head_width=32, layers=layers)
    model.mask_prompts = nn.Parameter(weights.pop("mask_embedding"))
    model.clip.visual.load_state_dict(weights)
    return model


def activations(model: MaskAdaptedCLIP, *arguments: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The embeddings, and what went into and came out of every block as `(L, N, width)`."""
    visual, seen = model.clip.visual, {}
    first = visual.transformer.batch_first

    def keep(name: str):
        def hook(_module, given, made):
            for end, tensor in (("in", given[0]), ("out", made)):
                seen[f"{name}.{end}"] = tensor.transpose(0, 1) if first else tensor

        return hook

    handles = [
        block.register_forward_hook(keep(f"block{index}"))
        for index, block in enumerate(visual.transformer.resblocks)
    ]
    handles.append(
        visual.conv1.register_forward_hook(
            lambda _module, _given, made: seen.__setitem__("conv1.out", made)
        )
    )
    with torch.no_grad():
        embeddings = model.encode_regions(*arguments)
    for handle in handles:
        handle.remove()
    return embeddings, seen


@pytest.mark.parametrize(
    ("name", "layers"),
    [("p8_w64_l4_h2_d3", 4), ("p8_w64_l2_h2_d1", 2), ("p8_w64_l2_h2_d3_shared", 2)],
)
def test_image_tower(agrees, reference_data: Path, name: str, layers: int):
    folder = reference_data / "golden" / VISUAL
    model = recorded_tower(folder, name, layers)
    io = load_file(folder / f"{name}.io.safetensors")
    pixels, masks = io["input.images"], io["input.region_masks"].squeeze(1)
    case = f"{VISUAL}/{name}"
    agrees(case, "patch masks", patch_masks(masks, 8), io["patch_mask"], tolerance=0)
    for prompts, arguments in (("with_mask", (pixels, masks)), ("no_mask", (pixels,))):
        ours, seen = activations(model, *arguments)
        which = "with prompts" if prompts == "with_mask" else "without prompts"
        expected = F.normalize(io[f"output.{prompts}"], dim=-1)
        agrees(case, f"embeddings {which}", ours, expected, tolerance=2e-6)
        recorded = {key for key in io if key.startswith(f"{prompts}.")}
        assert not recorded or len(recorded) == 2 * layers + 1
        for key in recorded:
            what = f"activations {which}"
            agrees(case, what, seen[key.removeprefix(f"{prompts}.")], io[key], tolerance=2e-6)


def test_patch_masks(agrees, reference_data: Path):
    recorded = load_file(reference_data / "golden" / VISUAL / "patch_masks.safetensors")
    for patch in (8, 14, 16, 32):
        ours, expected = patch_masks(recorded["masks_u8"], patch), recorded[f"patch_mask.p{patch}"]
        agrees(f"{VISUAL}/patch {patch}", "patch masks", ours, expected.float(), tolerance=0)
    soft, expected = patch_masks(recorded["soft_masks"], 14), recorded["patch_mask.soft.p14"]
    agrees(f"{VISUAL}/patch 14", "patch masks of soft masks", soft, expected.float(), tolerance=0)


@pytest.mark.parametrize("loader", ["fp32_original", "loaded"])
def test_a_training_checkpoint(agrees, reference_data: Path, loader: str):
    """The official loader rounds through float16 (`loaded`); the file's own numbers do not."""
    folder = reference_data / "golden" / VISUAL
    weights = load_file(folder / "clip_load.weights_before.safetensors")  # of the image tower
    model = tiny_clip(image_size=56, patch_size=14, width=64, head_width=64, layers=2)
    weights = fp16_rounded(weights) if loader == "loaded" else weights
    model.load_checkpoint_state({**model.clip.state_dict(), **weights})
    io = load_file(folder / "clip_load.io.safetensors")
    pixels, masks = io["input.images"], io["input.region_masks"].squeeze(1)
    for prompts in (True, False):
        with torch.no_grad():
            ours = model.encode_regions(pixels, masks, prompts=prompts)
        recorded = io[f"output.{loader}.{'with_mask' if prompts else 'no_mask'}"]
        case = f"{VISUAL}/clip_load, {'rounded' if loader == 'loaded' else 'as it is'}"
        what = f"embeddings {'with' if prompts else 'without'} prompts"
        agrees(case, what, ours, F.normalize(recorded, dim=-1), tolerance=2e-6)


# ----------------------------------------------------------------------------------- text tower


@pytest.fixture(scope="module")
def text_clip(reference_data: Path) -> MaskAdaptedCLIP:
    weights = load_file(reference_data / "golden" / TEXT / "weights.safetensors")
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
    text = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2}
    model = create_clip(
        {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    ).eval()
    state = model.clip.state_dict()
    state.update(with_token_rows(weights, 128))
    model.load_checkpoint_state(state)
    return model


def test_text_tower(agrees, reference_data: Path, text_clip: MaskAdaptedCLIP):
    folder = reference_data / "golden" / TEXT
    io = load_file(folder / "io.safetensors")
    prompts = json.loads((folder / "prompts.json").read_text())["prompts"]
    case, clip, seen = f"{TEXT}/text tower", text_clip.clip, {}

    def keep(name: str):
        return lambda _module, _given, made: seen.__setitem__(name, made)

    watched = {"token_embedding": clip.token_embedding, "ln_final": clip.ln_final}
    watched |= {f"block{i}": block for i, block in enumerate(clip.transformer.resblocks)}
    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    tokens = text_clip.tokenizer(prompts)
    with torch.no_grad():
        found = text_clip.encode_texts(prompts)
    for handle in handles:
        handle.remove()
    agrees(case, "token ids of 250 prompts", tokens, io["tokens"], tolerance=0)
    agrees(case, "embeddings", found, F.normalize(io["text_features"], dim=-1), tolerance=2e-6)
    rows, first = io["intermediate.sample_index"], clip.transformer.batch_first
    for name, key in (
        ("token_embedding", "token_embedding_LBC_is_BLC"),
        ("block0", "block0.out_LND"),
        ("block1", "block1.out_LND"),
        ("ln_final", "ln_final_NLD"),
    ):
        ours = seen[name][rows] if first or not name.startswith("block") else seen[name][:, rows]
        expected = io[f"intermediate.{key}"]
        if name.startswith("block") and first:
            expected = expected.transpose(0, 1)
        agrees(case, "activations", ours, expected, tolerance=2e-6)


def test_template_ensembles(agrees, reference_data: Path, text_clip: MaskAdaptedCLIP):
    folder = reference_data / "golden" / TEXT
    io = load_file(folder / "io.safetensors")
    recorded = json.loads((folder / "prompts.json").read_text())
    classes, prompts = recorded["classes"], recorded["prompts"]
    case = f"{TEXT}/template ensembles"
    agrees(
        case, "the 14 templates", list(TEMPLATES["vild"]), recorded["vild_templates"], tolerance=0
    )
    ours = list(TEMPLATES["imagenet"])
    agrees(case, "the 80 templates", ours, recorded["imagenet_templates"], tolerance=0)
    for templates, rows in (("vild", slice(84)), ("imagenet", slice(90, 250))):
        names = classes if templates == "vild" else classes[:2]
        filled = [prompt for of_name in fill_templates(names, templates) for prompt in of_name]
        agrees(case, f"prompts of {templates}", filled, prompts[rows], tolerance=0)
    for key, count, templates in (
        ("vild", 6, "vild"),
        ("predefined_single", 6, "single"),
        ("predefined_two", 6, [TEMPLATES["vild"][0], TEMPLATES["vild"][3]]),
        ("imagenet.first2", 2, "imagenet"),
    ):
        ours = text_embeddings(text_clip, classes[:count], templates=templates)
        agrees(case, f"embeddings of {key}", ours, io[f"ensemble.{key}"], tolerance=2e-6)


def test_texts_of_the_adapter(agrees, reference_data: Path, text_clip: MaskAdaptedCLIP):
    folder = reference_data / "golden" / TEXT
    io = load_file(folder / "io.safetensors")
    recorded = json.loads((folder / "prompts.json").read_text())
    case = f"{TEXT}/adapter"
    non_object = F.normalize(io["adapter.non_object_embedding"], dim=-1)
    for names, key in (("classes", ""), ("classes_with_duplicates", ".with_duplicates")):
        ours = text_embeddings(text_clip, recorded[names], templates="vild")
        expected = io[f"adapter.get_text_features{key}"]
        what = "class embeddings" + (" of repeated names" if key else "")
        agrees(case, what, torch.cat([ours, non_object]), expected, tolerance=2e-6)
        if not key:
            texts = torch.cat([ours, non_object])
    features = F.normalize(io["sim.image_embedding_raw"], dim=-1)
    for scale in (14.0, COSINE_SCALE):
        logits = scale * features @ texts.T
        agrees(case, "logits", logits, io[f"sim.logits_T{scale:.0f}"], tolerance=2e-6)


def test_token_ids(agrees, recording):
    recorded = json.loads(recording(f"{TEXT}/tokenizer.json").read_text())
    tokenizer = tiny_clip(image_size=8, patch_size=8, width=32, head_width=32, layers=1).tokenizer
    case, ours, theirs, spelt = f"{TEXT}/tokeniser", [], [], []
    for row in recorded["rows"]:
        ids = row["truncate_true_ids"] + [0] * (77 - len(row["truncate_true_ids"]))
        if row["open_clip_training_same_as_truncate_true"]:
            ours.append(tokenizer([row["text"]])[0].tolist())
            theirs.append(ids)
        else:
            spelt.append(row["text"])
            assert tokenizer([row["text"]])[0].tolist() != ids
    agrees(case, "token ids, over-long texts cut", ours, theirs, tolerance=0)
    # the names of the special tokens differ, in the official training code as well
    assert spelt == ["<|startoftext|> hi <|endoftext|>", "<start_of_text> hi <end_of_text>"]
    assert len(ours) == 65


# ---------------------------------------------------------------------------------- the adapter


@pytest.fixture(scope="module")
def adapter_clip(reference_data: Path) -> MaskAdaptedCLIP:
    weights = load_file(
        reference_data / "golden" / "open_vocab_maskformer" / "swin.weights.safetensors"
    )
    prefix = "clip_adapter.clip_model."
    state = {
        key.removeprefix(prefix): tensor
        for key, tensor in weights.items()
        if key.startswith(prefix)
    }
    vision = {"image_size": 224, "patch_size": 32, "width": 64, "head_width": 64, "layers": 3}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    model = create_clip(
        {"embed_dim": 48, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    ).eval()
    model.load_checkpoint_state(with_token_rows(state, 64))
    assert model.prompt_depth == 3
    return model


@pytest.mark.parametrize("picture", ["wide", "tall"])
def test_adapter_from_image_and_masks_to_logits(
    agrees, reference_data: Path, adapter_clip: MaskAdaptedCLIP, picture: str
):
    folder = reference_data / "golden" / ADAPTER
    inputs = load_file(folder / "inputs.safetensors")
    recorded = load_file(folder / "forward.io.safetensors")
    regions = region_crops(
        inputs[f"{picture}.image_u8"].permute(1, 2, 0),
        inputs[f"{picture}.masks"],
        size=224,
        mean=adapter_clip.pixel_mean,
        std=adapter_clip.pixel_std,
        threshold=0.5,
    )
    names = ["cat", "table", "traffic light", "wall"]
    texts = text_embeddings(adapter_clip, names, templates="single")
    texts = torch.cat([texts, F.normalize(recorded["non_object_embedding"], dim=-1)])
    case = f"{ADAPTER}/forward, {picture} image"
    agrees(case, "class embeddings", texts, recorded["text_features"], tolerance=2e-6)
    for prompts in (True, False):
        key = f"{picture}.mask_prompt_fwd={prompts}."
        which = f"{'with' if prompts else 'without'} prompts"
        agrees(case, "valid masks", regions.valid, recorded[key + "valid"], tolerance=0)
        with torch.no_grad():
            features = adapter_clip.encode_regions(regions.pixels, regions.masks, prompts=prompts)
        expected = F.normalize(recorded[key + "image_features_raw"], dim=-1)
        agrees(case, f"embeddings {which}", features, expected, tolerance=5e-6)
        logits = COSINE_SCALE * features @ texts.T
        agrees(case, f"logits {which}", logits, recorded[key + "sim_logits"], tolerance=5e-6)


def test_no_mask_and_one_mask_which_fail_upstream(
    reference_data: Path, adapter_clip: MaskAdaptedCLIP
):
    inputs = load_file(reference_data / "golden" / ADAPTER / "inputs.safetensors")
    image, masks = inputs["wide.image_u8"].permute(1, 2, 0), inputs["wide.masks"]
    style = {"size": 224, "mean": adapter_clip.pixel_mean, "std": adapter_clip.pixel_std}
    several = region_crops(image, masks, threshold=0.5, **style)
    one = region_crops(image, masks[:1], threshold=0.5, **style)
    none = region_crops(image, masks[1:2], threshold=0.5, **style)
    with torch.no_grad():
        every = adapter_clip.encode_regions(several.pixels, several.masks)
        alone = adapter_clip.encode_regions(one.pixels, one.masks)
        assert adapter_clip.encode_regions(none.pixels, none.masks).shape == (0, 48)
    torch.testing.assert_close(alone, every[:1], rtol=0, atol=2e-6)
