"""Read weights files of any format without running anything in them.

`read_weights(path)` detects the format by the file's first bytes, not by its name: a torch file, a
TorchScript archive (only its tensors), a pickle of numpy arrays, or safetensors. Each is read as
data within the size of the file. Any other file is rejected with one line that describes it.
`named_tensors` takes the tensors out of the dicts that training programs put around them.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.weights.safe_pickle import read_pickle
from ovseg.models.weights.torch_archives import (
    MOST_VIEWS,
    is_torchscript,
    read_archive,
    read_old,
    read_torchscript,
)

__all__ = [
    "NamedTensors",
    "Stored",
    "check_finite",
    "is_torchscript",
    "named_tensors",
    "read_safetensors",
    "read_weights",
    "shorten_list",
]

Format = Literal["torch", "torchscript", "pickle", "safetensors"]
FORMATS: dict[Format, str] = {
    "torch": "torch file",
    "torchscript": "TorchScript archive",
    "pickle": "pickle of arrays",
    "safetensors": "safetensors",
}
"""Names of the formats in messages."""

DISTRIBUTED_PREFIX = "module."
LONGEST_HEADER = 16 * 2**20
"""Maximum bytes of a safetensors header: 100 per tensor, enough for 100,000 tensors."""
ARCHIVE_NUMBERS = ("input_resolution", "context_length", "vocab_size")
CAUSAL_MASK = "attn_mask"

OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a torch file from before version 1.6: a pickled magic number."""


@dataclass(frozen=True)
class Stored:
    """The contents of a weights file.

    Attributes:
        format: format of the file.
        content: plain containers, numbers, texts and tensors on the CPU.
    """

    format: Format
    content: Any


def _ends_as_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # for example, an archive in several parts
        return False


def read_weights(path: Path) -> Stored:
    """Read a weights file.

    Args:
        path: the file.

    Raises:
        OvsegError: if the file does not exist, is not a weights file, is damaged, or asks to run
            code.
    """
    with _opened(path) as stream:
        start = stream.read(512)
    if not start:
        raise OvsegError(f"{path} is empty: download it again")
    if start[:4] == b"PK\x03\x04":
        if not _ends_as_zip(path):
            raise OvsegError(f"{path} has no end: it is truncated, download it again")
        if is_torchscript(path):
            return Stored("torchscript", read_torchscript(path))
        return Stored("torch", read_archive(path))
    if start.startswith(OLD_TORCH):
        return Stored("torch", read_old(path))
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return Stored("safetensors", read_safetensors(path))
    if start[:1] == b"\x80" and len(start) > 1 and start[1] in range(2, 6):
        return Stored("pickle", read_pickle(path))
    raise OvsegError(f"{path} is not a weights file: {_looks_like(start)}")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; everything in this project reads them here.

    Its header is at most `LONGEST_HEADER` bytes; the library itself checks that tensors are inside
    the file and do not overlap.

    Raises:
        OvsegError: if the file does not exist, is not a regular file, or is damaged.
    """
    with _opened(path) as stream:
        start = stream.read(8)
    if len(start) < 8 or int.from_bytes(start, "little") > LONGEST_HEADER:
        raise OvsegError(f"{path} is damaged (no safetensors header): download it again")
    try:
        return load_file(path)
    except (
        MemoryError,
        OSError,
        OverflowError,
        RuntimeError,
        SafetensorError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise OvsegError(f"{path} is damaged ({reason}): download it again") from error
    except (AttributeError, KeyError, TypeError) as error:  # a number type that torch does not have
        raise OvsegError(f"{path} has numbers of an unknown type ({error})") from error


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """Reject weights with non-finite numbers: a single one ruins every result.

    Args:
        tensors: tensors by name.
        source: file or folder, for the message.

    Raises:
        OvsegError: if a number is infinite or NaN.
    """
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor)
    ]
    if wrong:
        raise OvsegError(
            f"{source}: weights are not finite ({shorten_list(wrong, first=3)}): the training that"
            " wrote them diverged, or the file is damaged; use another"
        )


def _is_finite(tensor: Tensor) -> bool:
    # one pass and no copy of the tensor; a NaN is both the minimum and the maximum
    least, most = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(least) & torch.isfinite(most))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; a pipe would wait forever, a device would never end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "a device or a pipe"
            raise OvsegError(f"{path} cannot be read (it is {kind}): name a weights file")
        with path.open("rb") as stream:
            yield stream
    except (OSError, ValueError) as error:  # a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise OvsegError(f"{path} cannot be read ({reason}): name a weights file") from error


def _looks_like(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, as from a download that needs a confirmation or hit a quota"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError:
        return f"it starts with the bytes {start[:8].hex(' ')}"
    return f"it is text that starts with {start[:24].decode('utf-8', 'replace')!r}"


# --------------------------------------------------------------------------------------
# The tensors inside


@dataclass(frozen=True, kw_only=True)
class NamedTensors:
    """The tensors of a weights file.

    Attributes:
        layout: description of the file's layout.
        state: tensors by name, without the prefix of distributed training.
        dropped: reasons for dropping the file's other contents, by key.
    """

    layout: str
    state: dict[str, Tensor]
    dropped: dict[str, str]


def named_tensors(stored: Stored, source: Path) -> NamedTensors:
    """Take the tensors out of a training program's checkpoint.

    Args:
        stored: the content of a file: tensors by name, or under `model` (detectron2) or
            `state_dict` (open_clip) next to the state of the run.
        source: the file, for messages.

    Raises:
        OvsegError: if it has no named tensors, sparse tensors or non-finite numbers, or only some
            names have the prefix of distributed training.
    """
    content, dropped, layout = stored.content, dict[str, str](), FORMATS[stored.format]
    if not isinstance(content, Mapping):
        raise OvsegError(f"{source} has no named weights but a {type(content).__name__}")
    for wrapper, program in (("model", "detectron2"), ("state_dict", "open_clip training")):
        if isinstance(content.get(wrapper), Mapping):
            rest = [str(key) for key in content if key != wrapper]
            dropped = dict.fromkeys(rest, "beside the weights: of the run that made them")
            content, layout = content[wrapper], f"{program} layout, {layout}"
            break
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise OvsegError(
            f"{source} has no named weights: {len(others)} of its {len(content)} keys"
            f" ({shorten_list(others)}) are not tensors"
        )
    state = {str(key): value for key, value in content.items()}
    sparse = [name for name, value in state.items() if value.layout != torch.strided]
    if sparse:
        raise OvsegError(
            f"{source} has sparse tensors ({shorten_list(sparse)}): save them as dense"
        )
    plain = [name for name in state if not name.startswith(DISTRIBUTED_PREFIX)]
    if 0 < len(plain) < len(state):
        raise OvsegError(
            f"{source} has {len(state) - len(plain)} tensors with the prefix {DISTRIBUTED_PREFIX!r}"
            f" and {len(plain)} without ({shorten_list(plain)}): save the model in one way"
        )
    state = {name.removeprefix(DISTRIBUTED_PREFIX): tensor for name, tensor in state.items()}
    if stored.format == "torchscript":
        for name in list(state):
            if name in ARCHIVE_NUMBERS:
                dropped[name] = "a number of the archive, which shapes tell"
            elif name.rpartition(".")[2] == CAUSAL_MASK:
                dropped[name] = "the causal mask, which the context length makes"
        state = {name: tensor for name, tensor in state.items() if name not in dropped}
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > MOST_VIEWS * source.stat().st_size:
        raise OvsegError(f"{source} repeats the same numbers, {size} bytes of them: save each once")
    check_finite(state, source)
    return NamedTensors(layout=layout, state=state, dropped=dropped)


def shorten_list(names: Iterable[str], *, first: int = 6) -> str:
    """Format the first names and the number of the others, for a message."""
    ordered = [str(name) for name in names]
    if not ordered:
        return "none"
    more = len(ordered) - first
    return ", ".join(ordered[:first]) + (f" and {more} more" if more > 0 else "")
