"""CLIP by name: loading, saving, digests.

`load_clip` accepts three kinds of names: `storybook` (the compact model this package ships), a
local folder, and open_clip's `ARCHITECTURE/pretrained`, where `pretrained` is a tag or a weights
file. It returns a mask-adapted ViT; `load_model` and `shared_clip` also return convolutional CLIPs,
such as `storybook-conv`. A folder holds safetensors and JSON, and stock open_clip can read it too
(`open_clip.create_model("local-dir:FOLDER")`): prompts of any kind are in separate files.
"""

import copy
import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ovseg.config.model_names import CLIP_CONFIG, check_clip_tag, clip_folder
from ovseg.errors import OvsegError
from ovseg.files.digests import known_sha256
from ovseg.models.clip.config_files import (
    check_model_cfg,
    check_size,
    empty_towers,
    read_clip_config,
)
from ovseg.models.clip.context_vectors import FILES, load_context_vectors
from ovseg.models.clip.convolutional import ConvCLIP, is_convolutional
from ovseg.models.clip.mask_adapted import PROMPT_KEY, MaskAdaptedCLIP
from ovseg.models.clip.open_clip_model import (
    TOKENIZER_FILES,
    VOCABULARY_FILE,
    OpenClipModel,
    load_published,
    tokenizer_of,
    vocabulary_of,
)
from ovseg.models.weights.files import check_finite, named_tensors, read_safetensors, read_weights
from ovseg.models.weights.torch_archives import is_torchscript

WEIGHTS_FILE = "model.safetensors"
PROMPTS_FILE = "mask_prompts.safetensors"


# ---------------------------------------------------------------------------------------- names
def _tagged_weights(name: str) -> tuple[str, Path]:
    """Split `ARCHITECTURE/pretrained` into architecture and weights file; download a known tag."""
    import open_clip

    check_clip_tag(name)
    architecture, _, pretrained = name.partition("/")
    if Path(pretrained).is_file():
        return architecture, Path(pretrained)
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise OvsegError(
            f"{pretrained!r} is neither a file nor a tag of {architecture} (tags: {tags})"
        )
    try:
        return architecture, Path(open_clip.download_pretrained(tag))
    except Exception as error:  # urllib, huggingface_hub and requests all raise their own
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise OvsegError(
            f"cannot download {name} ({reason}): download the weights elsewhere and give their "
            f"path, {architecture}/PATH, or use 'storybook'"
        ) from error


def _resolve(name: str) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Return configuration, `mean` and `std`, and weights file of `ARCHITECTURE/pretrained`."""
    import open_clip

    architecture, file = _tagged_weights(name)
    model_cfg = open_clip.get_model_config(architecture)
    tag = open_clip.get_pretrained_cfg(architecture, name.partition("/")[2]) or {}
    # the activation belongs to the weights: ViT-L-14/openai would silently run with GELU
    if "quick_gelu" in tag:
        model_cfg["quick_gelu"] = tag["quick_gelu"]
    elif is_torchscript(file):  # OpenAI's own files, all with QuickGELU
        model_cfg["quick_gelu"] = True
    preprocess_cfg = {
        "mean": list(tag.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        "std": list(tag.get("std", open_clip.OPENAI_DATASET_STD)),
    }
    return model_cfg, preprocess_cfg, file


def clip_digest(name: str) -> str:
    """Return the sha256 (hex) of a model's configuration, weights, prompts and vocabulary.

    Raises:
        OvsegError: if the name is unknown or its weights are not available.
    """
    folder = clip_folder(name)
    digest = hashlib.sha256()
    if folder is not None:
        files = (CLIP_CONFIG, WEIGHTS_FILE, PROMPTS_FILE, VOCABULARY_FILE, *FILES)
        for file in (*files, *TOKENIZER_FILES):
            if (folder / file).is_file():
                digest.update(f"{file}={known_sha256(folder / file)}\n".encode())
    else:
        # not only the file: the tag determines the activation and the pixel statistics
        model_cfg, preprocess_cfg, weights = _resolve(name)
        settings = json.dumps([model_cfg, preprocess_cfg], sort_keys=True)
        digest.update(f"{settings}={known_sha256(weights)}\n".encode())
    return digest.hexdigest()


# -------------------------------------------------------------------------------------- loading
def create_clip(
    model_cfg: dict[str, Any],
    *,
    prompt_depth: int = 0,
    vocabulary: Path | None = None,
    preprocess_cfg: dict[str, Any] | None = None,
) -> MaskAdaptedCLIP:
    """Create a mask-adapted CLIP with random weights from open_clip's configuration.

    Args:
        model_cfg: `embed_dim`, `vision_cfg`, `text_cfg`, ... as open_clip writes them.
        prompt_depth: number of layers with mask prompts.
        vocabulary: BPE merges file of the tokenizer; defaults to open_clip's own.
        preprocess_cfg: `mean` and `std` of the pixels on a 0..1 scale; defaults to OpenAI's.

    Raises:
        OvsegError: if the configuration does not describe a ViT with this vocabulary.
    """
    model = create_model(model_cfg, vocabulary=vocabulary, preprocess_cfg=preprocess_cfg)
    adapted = _mask_adapted(model)
    if prompt_depth:
        adapted.draw_prompts(prompt_depth)
    return adapted


def _mask_adapted(model: OpenClipModel) -> MaskAdaptedCLIP:
    if not isinstance(model, MaskAdaptedCLIP):
        raise OvsegError(
            "this CLIP is convolutional: choose a ViT for prompts, mask tokens and fine-tuning, or"
            " classify regions with it unchanged, best with benchmarks.embedder=mask_pooling"
        )
    return model


def create_model(
    model_cfg: dict[str, Any],
    *,
    vocabulary: Path | None = None,
    preprocess_cfg: dict[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    source: object = CLIP_CONFIG,
) -> OpenClipModel:
    """Create a `MaskAdaptedCLIP` or a `ConvCLIP`, depending on the image tower; see `create_clip`.

    Given the `weights` to load, a model of many more numbers or layers is rejected before it takes
    memory; `source` names the configuration in errors.
    """
    import open_clip

    check_model_cfg(model_cfg, source)
    arguments = copy.deepcopy(empty_towers(model_cfg))
    text_cfg = arguments["text_cfg"]
    custom_text = arguments.pop("custom_text", False) or "hf_model_name" in text_cfg
    family = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    try:
        if weights is not None:
            check_size(family, arguments, weights)
        model = family(**arguments)
    except Exception as error:  # open_clip, timm, transformers and torch raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise OvsegError(
            f"{source}: model_cfg is not a CLIP that open_clip knows ({reason})"
        ) from error
    preprocess = preprocess_cfg or {}
    model.visual.image_mean = tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN))
    model.visual.image_std = tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD))
    kind = ConvCLIP if is_convolutional(model.visual) else MaskAdaptedCLIP
    return kind(
        model,
        tokenizer=tokenizer_of(text_cfg, vocabulary),
        model_cfg=model_cfg,
        vocabulary=vocabulary,
    )


def load_clip(
    name: str, *, device: str = "cpu", prompt_depth: int | None = None
) -> MaskAdaptedCLIP:
    """Load a ViT by name, in eval mode and float32; the caller owns it and may train it.

    Args:
        name: `storybook`, a folder of `save_clip`, or `ARCHITECTURE/pretrained` of open_clip.
        device: device of the model.
        prompt_depth: None keeps the prompts of the weights, if any; 0 drops them; another depth
            draws N(0, 0.02) prompts if the weights have none. Visual and pixel prompts are kept or
            dropped with them.

    Raises:
        OvsegError: if the name is unknown, the download fails, files are damaged or do not fit,
            prompts have another depth than requested, or the CLIP is convolutional.
    """
    model = _mask_adapted(load_model(name, device=device, prompts=prompt_depth != 0))
    if prompt_depth and model.mask_prompts is None:
        model.draw_prompts(prompt_depth)
    if prompt_depth and model.prompt_depth != prompt_depth:
        raise OvsegError(
            f"{name} has mask prompts of depth {model.prompt_depth}, not {prompt_depth}: "
            "leave prompt_depth out, or give 0 to drop them"
        )
    return model


def load_model(name: str, *, device: str = "cpu", prompts: bool = True) -> OpenClipModel:
    """Load a CLIP with any image tower, with or without its prompts; see `load_clip`."""
    folder = clip_folder(name)
    if folder is None:
        model = _model_of_tag(name, prompts=prompts)
    else:
        model_cfg, preprocess_cfg = read_clip_config(folder)
        state = read_safetensors(folder / WEIGHTS_FILE)
        if (folder / PROMPTS_FILE).is_file():
            state.update(read_safetensors(folder / PROMPTS_FILE))
        check_finite(state, folder)
        model = create_model(
            model_cfg,
            vocabulary=vocabulary_of(folder, model_cfg.get("text_cfg") or {}),
            preprocess_cfg=preprocess_cfg,
            weights=state,
            source=folder / CLIP_CONFIG,
        )
        try:
            model.load_checkpoint_state(state, prompts=prompts)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise OvsegError(f"{folder} has the weights of another model ({reason})") from error
        model.text_prompts = load_context_vectors(folder, model)
    return model.float().to(device).eval()


def _model_of_tag(name: str, *, prompts: bool) -> OpenClipModel:
    model_cfg, preprocess_cfg, file = _resolve(name)
    stored = read_weights(file)
    state = named_tensors(stored, file).state
    model = create_model(model_cfg, preprocess_cfg=preprocess_cfg, weights=state, source=name)
    try:
        if PROMPT_KEY in state or stored.format == "torchscript":
            model.load_checkpoint_state(state, prompts=prompts)
        else:
            load_published(model.clip, state)  # also converts foreign layouts
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OvsegError(f"{file} has no weights for {name.split('/')[0]}: {reason}") from error
    return model


_SHARED: dict[tuple[str, str], OpenClipModel] = {}
_SHARED_LOCK = threading.Lock()


def shared_clip(name: str, *, device: str = "cpu") -> OpenClipModel:
    """Return this process's only, frozen instance of a model's content; threads may share it."""
    key = (clip_digest(name), device)
    with _SHARED_LOCK:
        if key not in _SHARED:
            _SHARED[key] = load_model(name, device=device).requires_grad_(False)
        return _SHARED[key]
