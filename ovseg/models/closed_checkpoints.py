"""MaskFormers with a vocabulary of their own: detectron2 weights and `transformers` folders.

Both become a folder of `transformers` with safetensors, which `load_maskformer` reads as a
class-agnostic proposal network. Only Swin backbones are converted from detectron2: `transformers`
has no other that the published models use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import MaskFormerForInstanceSegmentation

from ovseg.errors import OvsegError
from ovseg.models.class_embedding import Architecture
from ovseg.models.official_maskformer import shared_dimensions
from ovseg.models.official_names import EMPTY_WEIGHT, UNUSED_NORM, shared_names, to_our_names
from ovseg.models.weight_files import listed

CLASS_HEAD = "sem_seg_head.predictor.class_embed"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def write_closed(
    state: Mapping[str, Tensor], folder: Path, *, decoder_heads: int
) -> dict[str, str]:
    """Write detectron2 weights of a closed-vocabulary MaskFormer as a `transformers` folder.

    Args:
        state: tensors by detectron2 name.
        folder: to make.
        decoder_heads: attention heads of the transformer decoder, which no shape tells.

    Returns:
        What was left behind and why.

    Raises:
        OvsegError: a backbone other than Swin, or tensors missing, left over or of other shapes.
    """
    if "backbone.patch_embed.proj.weight" not in state:
        raise OvsegError(
            "this MaskFormer has no Swin backbone, which is all that is converted from detectron2:"
            f" its {len(state)} keys are {listed(state)}; take its `transformers` folder instead"
        )
    try:
        architecture = Architecture(**shared_dimensions(state), decoder_heads=decoder_heads)
    except KeyError as error:
        raise OvsegError(f"this MaskFormer lacks {error.args[0]}: is the file whole?") from None
    names = shared_names(architecture) | {
        f"{CLASS_HEAD}.{kind}": (f"class_predictor.{kind}",) for kind in ("weight", "bias")
    }
    dropped = {
        name: "class weights of the training loss" for name in (EMPTY_WEIGHT,) if name in state
    }
    known = {*names, *dropped}
    missing = [name for name in names if name not in state]
    extra = [name for name in state if name not in known]
    if missing or extra:
        raise OvsegError(
            f"this is not the MaskFormer it seems to be, Swin {architecture.depths}: it lacks"
            f" {listed(missing)} and has unknown {listed(extra)}"
        )
    ours = {_in_transformers(k): v for k, v in to_our_names(state, names).items()}
    config = architecture.transformers_config()
    config.num_labels = len(state[f"{CLASS_HEAD}.bias"]) - 1
    network = MaskFormerForInstanceSegmentation(config)
    expected = network.state_dict()
    made = {UNUSED_NORM, "criterion"}  # not of the file: never used, or made anew
    ours |= {k: v for k, v in expected.items() if k.rpartition(".")[0] in made}
    wrong = [k for k, v in expected.items() if k not in ours or ours[k].shape != v.shape]
    if wrong:
        raise OvsegError(f"this MaskFormer's tensors have other shapes: {listed(wrong)}")
    network.load_state_dict(ours, strict=True)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(IMAGENET, indent=2) + "\n")
    return dropped


def _in_transformers(name: str) -> str:
    if name.startswith("mask_embed.layers."):
        layer, _, kind = name.removeprefix("mask_embed.layers.").partition(".")
        return f"mask_embedder.{layer}.0.{kind}"
    return name


def copy_transformers_folder(source: Path, folder: Path) -> int:
    """Write the folder of a `transformers` MaskFormer anew, checked, as safetensors.

    Returns:
        The number of tensors.

    Raises:
        OvsegError: no MaskFormer there, or one with tensors missing or left over.
    """
    try:
        kind = json.loads((source / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise OvsegError(
            f"{source} has no readable config.json: give a weights file or a MaskFormer's folder"
        ) from error
    if kind != "maskformer":
        raise OvsegError(f"{source} holds a {kind} model: of folders only a MaskFormer is imported")
    try:
        network, info = MaskFormerForInstanceSegmentation.from_pretrained(
            source, output_loading_info=True, local_files_only=True, dtype=torch.float32
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(f"{source} is no whole MaskFormer ({reason})") from error
    faults = {name: sorted(map(str, info[f"{name}_keys"])) for name in ("missing", "unexpected")}
    if any(faults.values()):
        raise OvsegError(
            f"{source} is no whole MaskFormer: missing {listed(faults['missing'])},"
            f" left over {listed(faults['unexpected'])}"
        )
    network.save_pretrained(folder)
    settings = source / "preprocessor_config.json"
    text = settings.read_text() if settings.is_file() else json.dumps(IMAGENET, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text)
    return len(network.state_dict())
