"""Proposal networks: scored class-agnostic masks from any MaskFormer, loaded by name.

A name is `storybook` (the compact weights shipped here; `storybook-1` for those of the storybook's
split 1, and so on), `storybook-mask2former`, a folder written by `save_maskformer` or `ovseg
import-checkpoint`, or a `transformers` MaskFormer or Mask2Former (a hub id such as
`facebook/maskformer-swin-base-coco` or `facebook/mask2former-swin-base-ade-semantic`, or a folder).
Mining and the segmentor only use `load_maskformer(name).propose(images)`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovseg.config.model_names import maskformer_folder, missing_maskformer
from ovseg.errors import OvsegError
from ovseg.models.devices import resolve_device
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.maskformer.proposing import ClosedMaskFormer, OpenMaskFormer
from ovseg.models.preprocessing import InputSettings, pad_batch, resize_shortest_edge
from ovseg.models.proposal import ProposalNetwork
from ovseg.models.weights.files import check_finite
from ovseg.models.weights.folders import (
    CONFIG_FILE,
    Stamp,
    content_digest,
    folder_stamp,
    network_digest,
    read_config,
    read_network,
    write_network,
)
from ovseg.models.weights.settings_files import check_folder, check_transformers, read_settings
from ovseg.storybook.weights import shipped_maskformer

__all__ = [
    "ClosedMaskFormer",
    "InputSettings",
    "OpenMaskFormer",
    "OpenVocabularyMaskFormer",
    "ProposalNetwork",
    "load_maskformer",
    "maskformer_digest",
    "maskformer_folder",
    "pad_batch",
    "resize_shortest_edge",
    "save_maskformer",
]

# silences the wrong warning that Mask2Former may not support a ResNet
logging.getLogger("transformers.models.mask2former.configuration_mask2former").setLevel(
    logging.ERROR
)

MODEL_TYPE = "ovseg-maskformer"


def closed_networks() -> dict[str, Any]:
    """Return the closed-vocabulary networks, with class and mask logits per query.

    They are by the `model_type` of their configuration.
    """
    from transformers import (
        Mask2FormerForUniversalSegmentation,
        MaskFormerForInstanceSegmentation,
    )

    from ovseg.models.maskformer.resnet import DeepStemMaskFormer, DeepStemMaskFormerConfig

    return {
        "maskformer": MaskFormerForInstanceSegmentation,
        "mask2former": Mask2FormerForUniversalSegmentation,
        DeepStemMaskFormerConfig.model_type: DeepStemMaskFormer,
    }


def save_maskformer(
    network: OpenVocabularyMaskFormer,
    folder: Path,
    *,
    inputs: InputSettings,
    class_names: Sequence[str],
    text_embeddings: Tensor,
    half: bool = False,
) -> None:
    """Write config.json, model.safetensors and text_embeddings.safetensors into a folder.

    Args:
        network: network to save.
        folder: created if missing.
        inputs: how pixels were prepared in training.
        class_names: names of the K training classes.
        text_embeddings: (K, E) float, their embeddings.
        half: store the floating-point weights as float16.
    """
    config = {
        "model_type": MODEL_TYPE,
        "architecture": network.architecture.model_dump(mode="json"),
        "inputs": inputs.model_dump(mode="json"),
        "class_names": list(class_names),
    }
    write_network(network, folder, config, text_embeddings=text_embeddings, half=half)


def load_maskformer(name: str, device: str = "cpu") -> ClosedMaskFormer | OpenMaskFormer:
    """Load a proposal network by its name, once per process, device and content.

    Args:
        name: `storybook`, `storybook-1`, a folder, or a hub id.
        device: a torch device, or `auto` for the fastest available.

    Raises:
        OvsegError: if there is no such network, or it is not a MaskFormer.
    """
    return _load(name, resolve_device(device), folder_stamp(maskformer_folder(name)))


def maskformer_digest(name: str) -> str:
    """Return the hash (16 hex digits) of a network's weights and settings.

    A network of ours that ships with ovseg is not built for it, which takes seconds of imports.

    Raises:
        OvsegError: as for `load_maskformer`.
    """
    shipped = shipped_maskformer(name)
    if shipped is None or missing_maskformer(name) is not None:
        return load_maskformer(name).digest
    return _shipped_digest(name, folder_stamp(shipped))


@lru_cache(maxsize=2)
def _shipped_digest(name: str, stamp: Stamp) -> str:
    folder = maskformer_folder(name)
    if read_config(folder).get("model_type") != MODEL_TYPE:
        return load_maskformer(name).digest
    return network_digest(folder)


@lru_cache(maxsize=2)
def _load(name: str, device: str, stamp: Stamp) -> ClosedMaskFormer | OpenMaskFormer:
    # the stamp is a cache key: a rewritten folder is read again
    folder = maskformer_folder(name)
    config_file = folder / CONFIG_FILE
    if (missing := missing_maskformer(name)) is not None:
        raise missing
    if config_file.is_file():
        config = read_config(folder)
        if config.get("model_type") == MODEL_TYPE:
            return _load_ours(folder, config, torch.device(device))
    elif folder.is_dir():
        raise OvsegError(f"{folder} has no config.json; name a folder that holds a MaskFormer")
    return _load_transformers(str(folder), torch.device(device))


def _load_ours(folder: Path, config: dict[str, Any], device: torch.device) -> OpenMaskFormer:
    def make() -> OpenVocabularyMaskFormer:
        return OpenVocabularyMaskFormer(Architecture(**config["architecture"]))

    stored = read_network(folder, config, make, kind="MaskFormer")
    return OpenMaskFormer(
        stored.network,
        class_names=stored.class_names,
        text_embeddings=stored.text_embeddings,
        inputs=stored.inputs,
        digest=stored.digest,
        device=device,
    )


def _load_transformers(name: str, device: torch.device) -> ClosedMaskFormer:
    advice = "name storybook, a folder, or the hub id of a MaskFormer that is cached or reachable"
    try:
        config = check_transformers(name)
        kind = config.get("model_type")
        family = closed_networks().get(kind) if isinstance(kind, str) else None
        if family is None:
            raise OvsegError(
                f"{name} is a {config.get('model_type')} model, not a MaskFormer; {advice}"
            )
        check_folder(name, family)
        network = family.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True if Path(name).is_dir() else None
        )
        inputs = _image_statistics(name)
    except OvsegError:
        raise
    except Exception as error:  # transformers, torch and safetensors raise their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise OvsegError(f"MaskFormer {name!r} cannot be loaded ({reason}); {advice}") from error
    check_finite(network.state_dict(), name)
    settings = {key: config[key] for key in sorted(config) if key[0] != "_"}
    settings.pop("transformers_version", None)
    settings["inputs"] = inputs.model_dump(mode="json")
    return ClosedMaskFormer(
        network,
        inputs=inputs,
        digest=content_digest(settings, network.state_dict()),
        device=device,
    )


def _image_statistics(name: str) -> InputSettings:
    """Read a checkpoint's own mean and deviation (0-1 scale); defaults to ImageNet's."""
    from transformers.utils import cached_file

    path = cached_file(
        name,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    stored = read_settings(Path(path)) if path else {}
    if "image_mean" not in stored or "image_std" not in stored:
        return InputSettings()
    return InputSettings(
        mean=tuple(255 * value for value in stored["image_mean"]),
        std=tuple(255 * value for value in stored["image_std"]),
    )
