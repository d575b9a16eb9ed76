"""Export our folders to published formats, for open_clip and the official OVSeg code.

    ovseg export-checkpoint checkpoints/ovseg-swinb --layout ovseg --out ovseg.pth

An imported checkpoint is exported with every tensor bit-identical. `layout` names the reader of the
file; open_clip refuses unknown tensors, so its layout has no mask prompts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import open_clip
import torch
from torch import Tensor

from ovseg.config.model_names import CLIP_CONFIG, clip_folder, maskformer_folder
from ovseg.errors import OvsegError
from ovseg.files.access import check_file_target
from ovseg.files.publish import discard, publish, temporary_name
from ovseg.models.checkpoints.clip_names import (
    OVSEG_PREFIX,
    buffer_of,
    prefixed,
    stock_architecture,
)
from ovseg.models.checkpoints.kinds import ImportRecord
from ovseg.models.checkpoints.maskformer_names import EMPTY_WEIGHT
from ovseg.models.checkpoints.maskformer_weights import NON_OBJECT, to_official
from ovseg.models.clip.config_files import check_model_cfg, read_clip_config
from ovseg.models.clip.context_vectors import TENSORS_FILE
from ovseg.models.clip.load import PROMPTS_FILE, WEIGHTS_FILE
from ovseg.models.clip.mask_adapted import PROMPT_KEY, is_prompt
from ovseg.models.maskformer.load import MODEL_TYPE
from ovseg.models.maskformer.open_vocabulary import Architecture
from ovseg.models.weights.files import DISTRIBUTED_PREFIX, check_finite, read_safetensors
from ovseg.models.weights.settings_files import read_settings

Layout = Literal["open_clip", "open_clip_prompts", "ovseg"]
HEAD_VERSION = 2
"""The version at which the official segmentation head does not rename its tensors."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The result of an export.

    Attributes:
        out: the file.
        tensors: number of tensors.
        left_out: the folder's contents that the layout cannot hold, and why.
        usage: how to use the file, one line each.
    """

    out: Path
    tensors: int
    left_out: dict[str, str]
    usage: tuple[str, ...]


def export_checkpoint(
    folder: str, out: Path, *, layout: Layout = "open_clip", clip: str | None = None
) -> ExportReport:
    """Write a published format.

    Args:
        folder: folder of an imported checkpoint, a CLIP (`save_clip`) or, for `ovseg`, a
            MaskFormer.
        out: file to create.
        layout: `open_clip`, a training checkpoint that open_clip loads with its own
            `create_model_and_transforms(ARCHITECTURE, pretrained=out)`, without mask prompts;
            `open_clip_prompts`, the same with them, as the official training writes it;
            `ovseg`, MaskFormer and CLIP in one file, as the official OVSeg loads it.
        clip: for `ovseg`: use this CLIP instead of the folder's own, for example one fine-tuned
            since.

    Raises:
        OvsegError: if the folder has no part that the layout needs, or a part that no layout can
            hold, or the file already exists.
    """
    if layout not in get_args(Layout):
        raise OvsegError(f"unknown layout {layout!r}: choose one of {', '.join(get_args(Layout))}")
    check_file_target(out)
    if out.exists():
        raise OvsegError(f"--out {out} already exists: name a new file")
    if clip is not None and layout != "ovseg":
        raise OvsegError(
            "--clip is only for --layout ovseg: otherwise give the CLIP's folder itself"
        )
    record = ImportRecord.read(Path(folder).expanduser())
    stored_as = record.stored_as if record is not None else {}
    state, config = _clip(clip or folder)
    left_out: dict[str, str] = {}
    if ((clip_folder(clip or folder) or Path()) / TENSORS_FILE).is_file():
        left_out[TENSORS_FILE] = "no published format has a place for learned text prompts"
    usage: tuple[str, ...]
    if layout == "ovseg":
        whole = _maskformer(folder, record)
        preprocess = config.get("preprocess_cfg", {})
        usual = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
        for name, numbers in usual.items():
            whole[f"clip_adapter.pixel_{name}"] = buffer_of(preprocess.get(name, numbers))
        if (projection := state.get("text_projection")) is None or projection.ndim != 2:
            raise OvsegError(f"{clip or folder} has no text_projection, which OVSeg's CLIPs have")
        widths = whole[NON_OBJECT].shape[1], projection.shape[1]
        if widths[0] != widths[1]:
            raise OvsegError(
                f"the MaskFormer's class embeddings have {widths[0]} numbers, the CLIP's texts"
                f" {widths[1]}: use a CLIP tuned from the one it was trained with"
            )
        whole |= prefixed(state, OVSEG_PREFIX)
        # a CLIP tuned after the import stays float32
        types = {k: v for k, v in stored_as.items() if clip is None or OVSEG_PREFIX not in k}
        content: dict[str, Any] = {"model": _official(_typed(whole, types))}
        count = len(whole)
        usage = _official_usage(state)
    else:
        if layout == "open_clip" and PROMPT_KEY in state:
            del state[PROMPT_KEY]
            left_out[PROMPT_KEY] = "open_clip refuses it; --layout open_clip_prompts keeps it"
        types = {name.removeprefix(OVSEG_PREFIX): kind for name, kind in stored_as.items()}
        named = prefixed(_typed(state, types), DISTRIBUTED_PREFIX)
        content = {"name": "ovseg", "state_dict": named}
        count = len(named)
        usage = _open_clip_usage(layout, config["model_cfg"], out)
    temporary = temporary_name(out)
    try:
        torch.save(content, temporary)
        publish(temporary, out)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise OvsegError(f"--out {out} cannot be written: {reason}") from error
    finally:
        discard(temporary)
    return ExportReport(out=out, tensors=count, left_out=left_out, usage=usage)


def _clip(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors, prompts included, and the configuration of a CLIP's folder."""
    folder = clip_folder(name)
    if folder is None:
        raise OvsegError(
            f"{name} is not the folder of a CLIP: give one, such as an imported checkpoint"
        )
    state = _read(folder / WEIGHTS_FILE)
    if (folder / PROMPTS_FILE).is_file():
        state |= _read(folder / PROMPTS_FILE)
    model_cfg, preprocess_cfg = read_clip_config(folder)
    check_model_cfg(model_cfg, folder / CLIP_CONFIG)
    if other := sorted(key for key in state if is_prompt(key) and key != PROMPT_KEY):
        raise OvsegError(
            f"{folder} has {', '.join(other)}, which no published format supports; export a"
            " CLIP trained without pixel and visual prompts"
        )
    return state, {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}


def _read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, floats as float32."""
    state = read_safetensors(path)
    check_finite(state, path)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _maskformer(name: str, record: ImportRecord | None) -> dict[str, Tensor]:
    """Read the tensors of an open-vocabulary MaskFormer by official name."""
    folder = maskformer_folder(name)
    try:
        config = read_settings(folder / "config.json")
        if config.get("model_type") != MODEL_TYPE:
            raise OvsegError(
                f"{folder} is a closed-vocabulary MaskFormer, which OVSeg does not support"
            )
        architecture = Architecture(**config["architecture"])
        state = _read(folder / "model.safetensors")
        classes = len(config["class_names"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise OvsegError(
            f"{name} has no complete MaskFormer for --layout ovseg ({reason})"
        ) from error
    official = to_official(state, architecture, num_classes=classes)
    if record is not None and record.no_object_weight is not None:
        official[EMPTY_WEIGHT][-1] = record.no_object_weight
    return official


def _typed(state: Mapping[str, Tensor], types: Mapping[str, str]) -> dict[str, Tensor]:
    """Convert tensors to the types they had in the imported file."""
    return {
        name: tensor.to(getattr(torch, types[name])) if name in types else tensor
        for name, tensor in state.items()
    }


def _official(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return a state dict with the version that the official segmentation head expects."""
    ordered = OrderedDict(state)
    metadata = OrderedDict({"sem_seg_head": {"version": HEAD_VERSION}})
    ordered._metadata = metadata  # type: ignore[attr-defined]
    return ordered


def _open_clip_usage(layout: Layout, model_cfg: Mapping[str, Any], out: Path) -> tuple[str, ...]:
    stock = stock_architecture(model_cfg)
    if stock is None:
        return ("open_clip has no architecture of these dimensions: give it open_clip_config.json",)
    if layout == "open_clip_prompts":
        return (f"official training: --model {stock} --pretrained {out}",)
    return (f"open_clip.create_model_and_transforms({stock!r}, pretrained={str(out)!r})",)


def _official_usage(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    prompts = state.get(PROMPT_KEY)
    if prompts is None:
        return ("official configuration: MODEL.CLIP_ADAPTER.MASK_PROMPT_FWD False",)
    depth = f"MODEL.CLIP_ADAPTER.MASK_PROMPT_DEPTH {len(prompts)}"
    return (f"official configuration: {depth}, MODEL.CLIP_ADAPTER.MASK_PROMPT_FWD True",)
