"""Weights files of any format, read without running anything that is in them.

`read_weights(path)` tells the format by the file's first bytes, not by its name: a torch file
(`weights_only=True`), a TorchScript archive (its tensors alone), a pickle of numpy arrays, or
safetensors. Whatever is no weights file is refused in one line that says what it looks like.
`named_tensors` takes the tensors out of the dicts that training programs put around them.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.safe_pickle import is_torchscript, read_pickle, read_torchscript

__all__ = ["NamedTensors", "Stored", "is_torchscript", "listed", "named_tensors", "read_weights"]

Format = Literal["torch", "torchscript", "pickle", "safetensors"]
FORMATS: dict[Format, str] = {
    "torch": "torch file",
    "torchscript": "TorchScript archive",
    "pickle": "pickle of arrays",
    "safetensors": "safetensors",
}
"""What people call them."""

DISTRIBUTED_PREFIX = "module."
ARCHIVE_NUMBERS = ("input_resolution", "context_length", "vocab_size")
CAUSAL_MASK = "attn_mask"

OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How a torch file of before version 1.6 begins: a pickled magic number."""


@dataclass(frozen=True)
class Stored:
    """What a weights file holds.

    Attributes:
        format: how it is stored.
        content: plain containers, numbers, texts and tensors on the CPU.
    """

    format: Format
    content: Any


def read_weights(path: Path) -> Stored:
    """Read a weights file.

    Args:
        path: the file.

    Raises:
        OvsegError: no such file, no weights file, a damaged one, or one that asks to run code.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise OvsegError(
            f"{path} cannot be read ({error.strerror}): name a weights file"
        ) from error
    if not start:
        raise OvsegError(f"{path} is empty: get it again")
    if start[:4] == b"PK\x03\x04":
        if not zipfile.is_zipfile(path):
            raise OvsegError(f"{path} lacks its end: it is truncated, get it again")
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch maps the tensors without looking at checksums
        if damaged is not None:
            raise OvsegError(f"{path} is damaged: the checksum of {damaged} differs, get it again")
        if is_torchscript(path):
            return Stored("torchscript", read_torchscript(path))
        return Stored("torch", _read_torch(path, mmap=True))
    if start.startswith(OLD_TORCH):
        return Stored("torch", _read_torch(path, mmap=False))
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return Stored("safetensors", _read_safetensors(path))
    if start[:1] == b"\x80" and start[1] in range(2, pickle.HIGHEST_PROTOCOL + 1):
        return Stored("pickle", read_pickle(path))
    raise OvsegError(f"{path} is no weights file: {_looks_like(start)}")


def _read_torch(path: Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())
        asked = re.search(r"GLOBAL ([\w.]+)", reason)
        if asked:
            raise OvsegError(
                f"{path} asks for {asked[1]} while it is read, which weights do not need; nothing"
                " of it was run: get the file from its publisher, or save its tensors alone"
            ) from error
        raise OvsegError(
            f"{path} is damaged or no torch file ({reason[:160]}): get it again"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OvsegError(f"{path} is damaged ({error}): get it again") from error


def _looks_like(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, as a download gives that needs a confirmation or hit a quota"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError:
        return f"it begins with the bytes {start[:8].hex(' ')}"
    return f"it is text that begins with {start[:24].decode('utf-8', 'replace')!r}"


# --------------------------------------------------------------------------------------
# The tensors inside


@dataclass(frozen=True, kw_only=True)
class NamedTensors:
    """The tensors of a weights file.

    Attributes:
        layout: how the file holds them, for people.
        state: them, without the prefix of distributed training.
        dropped: what else the file holds and why it is left behind, by key.
    """

    layout: str
    state: dict[str, Tensor]
    dropped: dict[str, str]


def named_tensors(stored: Stored, source: Path) -> NamedTensors:
    """Take the tensors out of what training programs put around them.

    Args:
        stored: the content of a file: tensors by name, or those under `model` (detectron2) or
            `state_dict` (open_clip) beside the state of the run.
        source: the file, for messages.

    Raises:
        OvsegError: it holds no named tensors, sparse ones, or names them in two ways at once.
    """
    content, dropped, layout = stored.content, dict[str, str](), FORMATS[stored.format]
    if not isinstance(content, Mapping):
        raise OvsegError(f"{source} holds no weights by name but a {type(content).__name__}")
    for wrapper, program in (("model", "detectron2"), ("state_dict", "open_clip training")):
        if isinstance(content.get(wrapper), Mapping):
            rest = [str(key) for key in content if key != wrapper]
            dropped = dict.fromkeys(rest, "beside the weights: of the run that made them")
            content, layout = content[wrapper], f"{program} layout, {layout}"
            break
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise OvsegError(
            f"{source} holds no weights by name: {len(others)} of its {len(content)} keys"
            f" ({listed(others)}) hold no tensor"
        )
    state = {str(key): value for key, value in content.items()}
    sparse = [name for name, value in state.items() if value.layout != torch.strided]
    if sparse:
        raise OvsegError(f"{source} holds sparse tensors ({listed(sparse)}): save them as dense")
    plain = [name for name in state if not name.startswith(DISTRIBUTED_PREFIX)]
    if 0 < len(plain) < len(state):
        raise OvsegError(
            f"{source} names {len(state) - len(plain)} tensors with {DISTRIBUTED_PREFIX!r} before"
            f" them and {len(plain)} without ({listed(plain)}): save the model in one way"
        )
    state = {name.removeprefix(DISTRIBUTED_PREFIX): tensor for name, tensor in state.items()}
    if stored.format == "torchscript":
        for name in list(state):
            if name in ARCHIVE_NUMBERS:
                dropped[name] = "a number of the archive, which shapes tell"
            elif name.rpartition(".")[2] == CAUSAL_MASK:
                dropped[name] = "the causal mask, which the context length makes"
        state = {name: tensor for name, tensor in state.items() if name not in dropped}
    return NamedTensors(layout=layout, state=state, dropped=dropped)


def listed(names: Iterable[str], *, first: int = 6) -> str:
    """The first names of many and how many more there are, for a message."""
    ordered = [str(name) for name in names]
    if not ordered:
        return "none"
    more = len(ordered) - first
    return ", ".join(ordered[:first]) + (f" and {more} more" if more > 0 else "")
