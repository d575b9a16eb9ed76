"""The folder of a network this project trained: config.json, weights and the texts of its classes.

`save_maskformer` and `save_pixel_network` write it, the loaders next to them read it. Weights are
safetensors; a folder's content digest covers settings, weights and text embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ovseg.errors import OvsegError
from ovseg.files.publish import permit
from ovseg.models.preprocessing import InputSettings
from ovseg.models.weights.files import check_finite, read_safetensors, shorten_list
from ovseg.models.weights.settings_files import check_settings, read_settings

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TEXTS_FILE = "text_embeddings.safetensors"

Stamp = tuple[tuple[str, int, int], ...]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class StoredNetwork(Generic[Network]):
    """The contents of a folder.

    Attributes:
        network: the module, with its weights.
        inputs: how pixels are prepared.
        class_names: names of the K classes it was trained on.
        text_embeddings: (K, E) float32, embeddings of the class names.
        digest: content hash of settings, weights and text embeddings.
    """

    network: Network
    inputs: InputSettings
    class_names: tuple[str, ...]
    text_embeddings: Tensor
    digest: str


def write_network(
    network: nn.Module,
    folder: Path,
    config: Mapping[str, Any],
    *,
    text_embeddings: Tensor,
    half: bool = False,
) -> None:
    """Write config.json, model.safetensors and text_embeddings.safetensors into a folder.

    Args:
        network: network to save.
        folder: created if missing.
        config: everything needed to rebuild the network, including its `model_type`.
        text_embeddings: (K, E) float, embeddings of its training classes.
        half: store the floating-point weights as float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for key, value in network.state_dict().items()
    }
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    text = text_embeddings.detach().float().cpu().contiguous()
    save_file({"text_embeddings": text}, folder / TEXTS_FILE)
    for name in (WEIGHTS_FILE, TEXTS_FILE):
        permit(folder / name)  # safetensors makes the file readable only by its owner
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config.json of a folder; raises `OvsegError` if it is not a network's."""
    config = read_settings(folder / CONFIG_FILE)
    check_settings(config, folder / CONFIG_FILE)
    return config


def read_network(
    folder: Path, config: Mapping[str, Any], make: Callable[[], Network], *, kind: str
) -> StoredNetwork[Network]:
    """Read the network of a folder, in float32.

    Args:
        folder: the network's folder.
        config: its config.json.
        make: builds the module.
        kind: name of the network in messages.

    Raises:
        OvsegError: if the folder is incomplete, or belongs to another network.
    """
    try:
        inputs = InputSettings(**config["inputs"])
        state, text = _tensors(folder)
        class_names = config["class_names"]
        if not isinstance(class_names, list) or not all(isinstance(n, str) for n in class_names):
            raise ValueError("class_names is not a list of strings")
        if text.ndim != 2 or len(text) != len(class_names):
            raise ValueError(f"{len(class_names)} classes, texts {tuple(text.shape)}")
        with torch.device("meta"):  # detects other names or shapes before the network takes memory
            expected = make().state_dict()
        wrong = {*expected} ^ {*state} or {k for k in state if state[k].shape != expected[k].shape}
        if wrong:
            raise ValueError(f"missing, unknown or of another shape: {shorten_list(sorted(wrong))}")
        network = make()
        network.load_state_dict(state)
    except (ArithmeticError, LookupError, OvsegError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(f"{folder} is not a complete {kind} ({reason}); train it again") from error
    return StoredNetwork(
        network=network,
        inputs=inputs,
        class_names=tuple(class_names),
        text_embeddings=text,
        digest=content_digest(config, {**state, "text_embeddings": text}),
    )


def network_digest(folder: Path) -> str:
    """Return the digest that `read_network` gives a whole folder, without building the network.

    Raises:
        OvsegError: if a file is missing or damaged.
    """
    state, text = _tensors(folder)
    return content_digest(read_config(folder), {**state, "text_embeddings": text})


def _tensors(folder: Path) -> tuple[dict[str, Tensor], Tensor]:
    """Read a folder's weights, in float32, and text embeddings."""
    state = read_safetensors(folder / WEIGHTS_FILE)
    text = read_safetensors(folder / TEXTS_FILE)["text_embeddings"]
    check_finite({**state, "text_embeddings": text}, folder)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, text


def content_digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the hash (16 hex digits) of settings and tensors."""
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        sha.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def folder_stamp(folder: Path) -> Stamp:
    """Return names, sizes and times of a folder's files; empty for a hub id."""
    if not folder.is_dir():
        return ()
    stats = {file.name: file.stat() for file in sorted(folder.iterdir()) if file.is_file()}
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())
