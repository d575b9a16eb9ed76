"""Pickled weights read without running anything of them.

A pickle is a program: reading it calls whatever it names. The readers here answer the few names
that weights need (numpy arrays, a TorchScript archive's tensors) with stand-ins of their own and
refuse every other name, so that nothing of numpy, torch or the file's own code is ever called.
`ovseg.models.weight_files` chooses between them and `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ovseg.errors import OvsegError

ARRAY_TYPES = ("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1")
STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
"""What a TorchScript archive calls its storages."""

PLAIN = bool | int | float | complex | str | bytes | bytearray | None


class RefusedName(pickle.UnpicklingError):
    """A pickle names something beyond weights; `name` is what."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name}")
        self.name = name


class _Stand:
    """A callable in place of one that a pickle names; a pickle cannot alter it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("state for a function")


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BufferedIOBase | io.BytesIO) -> None:
        super().__init__(stream, encoding="latin1")  # what Python 2 wrote: bytes come as text
        self.names: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.names[f"{module}.{name}"]
        except KeyError:
            raise RefusedName(f"{module}.{name}") from None


def _load(unpickler: _Unpickler, path: Path) -> Any:
    """Run an unpickler; whatever a damaged or foreign pickle makes it raise is one error."""
    try:
        return unpickler.load()
    except RefusedName as error:
        raise OvsegError(
            f"{path} asks for {error.name} while it is read, which weights do not need; nothing of"
            " it was run: get the file from its publisher, or have it saved as plain arrays"
        ) from error
    except (EOFError, MemoryError) as error:
        raise OvsegError(f"{path} ends too early: it is truncated, get it again") from error
    except (
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        OverflowError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        cut = "truncated" in reason
        advice = "get it again" if cut else "is it a weights file?"
        raise OvsegError(
            f"{path} cannot be read as pickled weights ({reason}): {advice}"
        ) from error


# --------------------------------------------------------------------------------------
# Pickles of numpy arrays, as detectron2 writes them


class _DType:
    """A numpy dtype as pickled: a code such as `f4`, and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code.lstrip("<>=|") not in ARRAY_TYPES:
            raise pickle.UnpicklingError(f"an array of type {str(code)[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of a composed type")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """A numpy array as pickled; `tensor` once its state was read."""

    def __init__(self, *_: Any) -> None:
        self.tensor: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.tensor = _tensor(data, dtype, shape, fortran=bool(fortran))


def _tensor(data: Any, dtype: Any, shape: Any, *, fortran: bool) -> Tensor:
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType):
        raise pickle.UnpicklingError("an array that is not numbers")
    sizes = tuple(shape)
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise pickle.UnpicklingError(f"an array of shape {sizes!r}"[:80])
    if len(data) != math.prod(sizes) * dtype.dtype.itemsize:
        raise pickle.UnpicklingError("array data truncated")
    array = np.frombuffer(data, dtype=dtype.dtype).reshape(sizes, order="F" if fortran else "C")
    return torch.from_numpy(array.astype(dtype.dtype.newbyteorder("="), order="C", copy=True))


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Tensor:
    return _tensor(data, dtype, shape, fortran=order == "F")


def _scalar(dtype: Any, data: Any) -> Any:
    return _tensor(data, dtype, (), fortran=False).item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


def read_pickle(path: Path) -> Any:
    """Read a pickle of numpy arrays and plain containers.

    Args:
        path: the file, of any pickle protocol.

    Returns:
        Its dicts, lists, tuples, texts and numbers, each array as a tensor of the same dtype.

    Raises:
        OvsegError: the pickle names anything else, is truncated, or is no pickle.
    """
    with path.open("rb") as stream:
        unpickler = _Unpickler(stream)
        for package in ("numpy.core", "numpy._core"):
            unpickler.names[f"{package}.multiarray._reconstruct"] = _Array
            unpickler.names[f"{package}.multiarray.scalar"] = _Stand(_scalar)
            unpickler.names[f"{package}.numeric._frombuffer"] = _Stand(_frombuffer)
        unpickler.names["numpy.ndarray"] = "ndarray"
        unpickler.names["numpy.dtype"] = _DType
        unpickler.names["collections.OrderedDict"] = _Stand(dict)
        unpickler.names["_codecs.encode"] = _Stand(_encode)
        for builtins in ("builtins", "__builtin__"):
            unpickler.names[f"{builtins}.bytes"] = _Stand(bytes)
        content = _load(unpickler, path)
    try:
        return _plain(content)
    except (RecursionError, pickle.UnpicklingError) as error:
        raise OvsegError(f"{path} holds more than arrays and plain containers: {error}") from error


def _plain(value: Any) -> Any:
    """The same containers with arrays as tensors, and nothing else in them."""
    if isinstance(value, _Array) and value.tensor is not None:
        return value.tensor
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, PLAIN | Tensor):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__.strip('_')}")


# --------------------------------------------------------------------------------------
# TorchScript archives, as OpenAI publishes CLIP


class _Module:
    """An object of a TorchScript archive: its attributes by name."""

    attributes: Mapping[str, Any]

    def __init__(self) -> None:
        self.attributes = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module whose state is no dict")
        self.attributes = state


class _Storage:
    """Numbers of one storage file of an archive."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code's constants beside its data."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(member.partition("/")[2] == "constants.pkl" for member in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript archive; its program is neither compiled nor run.

    Args:
        path: an archive for which `is_torchscript` holds.

    Returns:
        Each tensor by its dotted name, in the archive's order and own dtype, on the CPU.

    Raises:
        OvsegError: the archive is damaged, or its objects are more than modules and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = next(n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
            root = data.removesuffix("data.pkl")
            unpickler = _ArchiveUnpickler(archive, root)
            content = _load(unpickler, path)
    except (StopIteration, zipfile.BadZipFile) as error:
        raise OvsegError(f"{path} is a damaged TorchScript archive: get it again") from error
    if not isinstance(content, _Module):
        raise OvsegError(f"{path} is a TorchScript archive of something else than a module")
    return dict(_tensors(content, ""))


class _ArchiveUnpickler(_Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self.archive, self.root = archive, root
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise OvsegError(f"{archive.filename} was written on a big-endian machine: convert it")
        self.storages: dict[str, _Storage] = {}
        self.names["torch._utils._rebuild_tensor_v2"] = _Stand(_rebuild)
        self.names["collections.OrderedDict"] = _Stand(dict)
        for tag in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"):
            self.names[f"torch.jit._pickle.{tag}"] = _Stand(lambda values: values)
        self.names["torch.jit._pickle.restore_type_tag"] = _Stand(lambda values, _: values)
        for name in STORAGES:
            self.names[f"torch.{name}"] = name

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, count = pid
        if kind != "storage" or name not in STORAGES:
            raise pickle.UnpicklingError(f"a {str(name)[:40]}")
        if key not in self.storages:
            raw = bytearray(self.archive.read(f"{self.root}data/{key}"))
            dtype = STORAGES[name]
            if len(raw) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} truncated")
            numbers = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            self.storages[key] = _Storage(numbers)
        return self.storages[key]


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    whole = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in whole):
        raise pickle.UnpicklingError("a tensor of a strange shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and last >= len(storage.numbers):
        raise pickle.UnpicklingError("a tensor beyond its storage")
    numbers: Tensor = storage.numbers
    return numbers.as_strided(tuple(size), tuple(stride), offset).clone()


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
