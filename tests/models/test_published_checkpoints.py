"""The published models by names, and their small recordings from the file to the class maps."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, VisionTransformer
from published_weights import (
    golden_classes,
    golden_ovseg,
    read,
    same,
    save_ovseg,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.models.checkpoints.clip_names import (
    OVSEG_PREFIX,
    buffer_of,
    clip_configuration,
    fp16_rounded,
    prefixed,
    stock_architecture,
)
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.checkpoints.importing import import_checkpoint
from ovseg.models.checkpoints.maskformer_weights import (
    from_official,
    official_architecture,
    to_official,
)
from ovseg.models.clip.load import create_clip, load_clip
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSize
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.segmentor import Segmentor


@pytest.mark.parametrize(
    ("case", "count", "clip"),
    [
        ("swinB_vitL14", 954, "ViT-L-14-quickgelu"),
        ("R101c_vitB16", 983, "ViT-B-16-quickgelu"),
    ],
)
def test_every_tensor_of_the_published_models_has_its_place(
    reference_data: Path, case: str, count: int, clip: str
):
    """Names, shapes and types of the whole published file, from the file to ours and back."""
    listing = reference_data / "golden" / "open_vocab_maskformer" / f"state_dict_keys.{case}.json"
    keys = json.loads(listing.read_text())["keys"]
    assert len(keys) == count
    published = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for name, (shape, dtype) in keys.items()
    }
    inside = {
        name.removeprefix(OVSEG_PREFIX): tensor
        for name, tensor in published.items()
        if name.startswith(OVSEG_PREFIX)
    }
    config = clip_configuration(inside, quick_gelu=True)
    assert stock_architecture(config) == clip
    architecture = official_architecture(published)
    ours, dropped = from_official(published, architecture)
    with torch.device("meta"):
        network = OpenVocabularyMaskFormer(architecture)
        model = create_clip(config, prompt_depth=3)
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    assert shapes == {name: tensor.shape for name, tensor in network.state_dict().items()}
    back = to_official(network.state_dict(), architecture, num_classes=171)
    back |= prefixed(model.checkpoint_state(), OVSEG_PREFIX)
    back |= {f"clip_adapter.pixel_{name}": buffer_of((0, 0, 0)) for name in ("mean", "std")}
    assert set(dropped) == {"criterion.empty_weight"}
    found = {n: [list(t.shape), str(t.dtype).removeprefix("torch.")] for n, t in back.items()}
    assert found == keys


@pytest.fixture(scope="module", params=["swin", "resnet"])
def recorded(request, reference_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """A recorded model: its name, its imported folder, its file's tensors, its recordings."""
    folder = reference_data / "golden" / "open_vocab_maskformer"
    place = tmp_path_factory.mktemp(request.param)
    state = golden_ovseg(folder, request.param)
    save_ovseg(state, place / "published.pth")
    names = golden_classes(folder)
    import_checkpoint(place / "published.pth", place / "ours", class_names=names, decoder_heads=4)
    recordings = load_file(folder / f"{request.param}.io.safetensors")
    image = load_file(folder / "swin.io.safetensors")["input0.image_u8"]
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return request.param, place / "ours", state, recordings, pixels, names


def test_recorded_models_there_and_back_to_the_bit(recorded, tmp_path: Path):
    _, folder, state, _, _, _ = recorded
    export_checkpoint(str(folder), tmp_path / "back.pth", layout="ovseg")
    same(read(tmp_path / "back.pth", "model"), state)


VARIANTS = {
    "w0": {"ensemble_weight": 0.0},
    "w0.6": {"ensemble_weight": 0.6},
    "noens": {"mode": "maskformer_only"},
    "w0.7.no_mask_prompt": {"mask_prompts": False},
    "w0.7.thr0.35": {"mask_threshold": 0.35},
}


def test_imported_checkpoints_reproduce_the_recorded_maps(recorded, agrees):
    """From the file in published format to the class maps, through our folders and segmentor."""
    case, folder, _, recordings, image, names = recorded
    name, case = str(folder), f"open_vocab_maskformer/{case}"
    clip, network = load_clip(name), load_maskformer(name)

    def class_maps(**changes) -> Tensor:
        settings = {"size": InputSize(70, 93), "mask_threshold": 0.5, **changes}
        embedder = CropEmbedder(clip, mask_prompts=settings.pop("mask_prompts", True))
        segmentor = Segmentor(clip, network, class_names=names, embedder=embedder, **settings)
        return segmentor.class_maps(image)

    def resized(maps: Tensor) -> Tensor:
        return F.interpolate(maps[None], size=(50, 66), mode="bilinear", align_corners=False)[0]

    maps = class_maps()
    before = recordings["img0.sem_out0.before_final_resize"]
    agrees(case, "imported checkpoint: class maps", maps, before, tolerance=1e-5)
    maps, final = resized(maps), recordings["img0.out0.sem_seg"]
    agrees(case, "imported checkpoint: final class maps", maps, final, tolerance=1e-5)
    labels = recordings["img0.out0.argmax"]
    agrees(case, "imported checkpoint: labels", maps.argmax(0).to(labels), labels, tolerance=0)
    for variant, changes in VARIANTS.items():
        if f"img0.sem_seg.{variant}" in recordings:
            expected = recordings[f"img0.sem_seg.{variant}"]
            what = f"imported checkpoint: final class maps, {variant}"
            agrees(case, what, resized(class_maps(**changes)), expected, tolerance=1e-5)


def test_the_official_loader_s_rounding(reference_data: Path, agrees):
    """Both what the loader makes of a training checkpoint and what the file's numbers give."""
    folder = reference_data / "golden" / "clip_visual_mask_prompt"
    meta = json.loads((folder / "meta.json").read_text())["clip_load_fp16_rounding"]
    numbers = {
        name: torch.tensor(1 / 3) for name in meta["rounded_keys"] + meta["not_rounded_keys"]
    }
    changed = {name for name, tensor in fp16_rounded(numbers).items() if tensor != numbers[name]}
    assert changed == set(meta["rounded_keys"])
    state = load_file(folder / "clip_load.weights_before.safetensors")
    io = load_file(folder / "clip_load.io.safetensors")
    masks = io["input.region_masks"].squeeze(1)
    model = create_clip(open_clip.get_model_config("ViT-B-32"))
    for kind, weights in (("loaded", fp16_rounded(state)), ("fp32_original", state)):
        model.clip.visual = VisionTransformer(
            image_size=56,
            patch_size=14,
            width=64,
            layers=2,
            heads=1,
            mlp_ratio=4.0,
            output_dim=32,
            act_layer=QuickGELU,
        )
        tower = {name.removeprefix("visual."): tensor for name, tensor in weights.items()}
        model.mask_prompts = nn.Parameter(tower.pop("mask_embedding"))
        model.clip.visual.load_state_dict(tower)
        model.eval()
        with torch.no_grad():
            for prompts, given in (("with_mask", masks), ("no_mask", None)):
                ours = model.encode_regions(io["input.images"], given)
                expected = F.normalize(io[f"output.{kind}.{prompts}"], dim=-1)
                what = f"{kind}, {prompts}"
                agrees("clip_visual_mask_prompt/clip_load", what, ours, expected, tolerance=1e-5)
