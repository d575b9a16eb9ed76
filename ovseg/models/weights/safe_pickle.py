"""Read pickled weights without running them.

A pickle is a program: reading it calls whatever it names. The readers here replace the few names
that weights need (numpy arrays, torch's tensors) with stand-ins and reject every other name, so no
code of numpy, torch or the file is ever called. A file of N bytes makes at most N bytes of arrays
and N bytes of text; `ovseg.models.weights.pickle_machine` limits the rest.
`ovseg.models.weights.files` chooses the reader.
"""

from __future__ import annotations

import math
import mmap
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.weights.pickle_machine import (
    Built,
    Machine,
    RefusedName,
    Room,
    Stand,
    checked_key,
    plain,
)

ARRAY_TYPES = ("b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1")
MOST_DIMENSIONS = 32


@contextmanager
def pickle_errors(path: Path) -> Iterator[None]:
    """Convert any error from reading a damaged or foreign pickle to one kind.

    Raises:
        OvsegError: if it uses names that weights do not need, is truncated, or is not a pickle.
    """
    try:
        yield
    except RefusedName as error:
        raise OvsegError(
            f"{path} asks for {error.name[:80]!s} while it is read, which weights do not need;"
            " nothing was run: get the file from its publisher, or save only its tensors"
        ) from error
    except (EOFError, MemoryError) as error:
        raise OvsegError(f"{path} ends too early: it is truncated, download it again") from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NotImplementedError,
        OSError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        cut = "truncated" in reason or "exhausted" in reason or "remain" in reason
        advice = "it is truncated, download it again" if cut else "is it a weights file?"
        raise OvsegError(
            f"{path} cannot be read as pickled weights ({reason}): {advice}"
        ) from error


# --------------------------------------------------------------------------------------
# Numpy arrays and plain objects


class _DType(Built):
    """A numpy dtype as pickled: a code such as `f4`, and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code.lstrip("<>=|") not in ARRAY_TYPES:
            raise pickle.UnpicklingError(f"an array of type {str(code)[:20]!r}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Set the byte order; reject composed types."""
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of a composed type")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(Built):
    """A numpy array as pickled; `tensor` is set once its state is read."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.tensor: Tensor | None = None

    def build(self, state: Any) -> None:
        """Set shape and numbers."""
        _, shape, dtype, fortran, data = state
        self.tensor = self.arrays.tensor(data, dtype, shape, fortran=bool(fortran))


class Arrays:
    """Stand-ins for numpy's names, all within the size of one file.

    Args:
        size: size of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self.numbers, self.texts = Room(size), Room(size)
        self.names: dict[str, Any] = {
            "numpy.ndarray": "ndarray",
            "numpy.dtype": Stand(_DType),
            "collections.OrderedDict": Stand(ordered),
            "_codecs.encode": Stand(self._encode),
        }
        for package in ("numpy.core", "numpy._core"):
            self.names[f"{package}.multiarray._reconstruct"] = Stand(lambda *_: _Array(self))
            self.names[f"{package}.multiarray.scalar"] = Stand(self._scalar)
            self.names[f"{package}.numeric._frombuffer"] = Stand(self._frombuffer)
        for builtins in ("builtins", "__builtin__"):
            self.names[f"{builtins}.bytes"] = Stand(_no_bytes)

    def find(self, name: str) -> Any:
        """Return the stand-in for a name; raises `RefusedName`."""
        try:
            return self.names[name]
        except KeyError:
            raise RefusedName(name) from None

    def tensor(self, data: Any, dtype: Any, shape: Any, *, fortran: bool) -> Tensor:
        """Make a tensor of pickled numbers, with its own memory."""
        if isinstance(data, str):
            data = data.encode("latin1")
        if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType):
            raise pickle.UnpicklingError("an array that is not numbers")
        if type(shape) is not tuple or len(shape) > MOST_DIMENSIONS:
            raise pickle.UnpicklingError("an array of a strange shape")
        if not all(type(size) is int and 0 <= size < 2**62 for size in shape):
            raise pickle.UnpicklingError(f"an array of shape {shape!r}"[:80])
        if len(data) != math.prod(shape) * dtype.dtype.itemsize:
            raise pickle.UnpicklingError("array data truncated")
        self.numbers.take(len(data))
        array = np.frombuffer(data, dtype=dtype.dtype).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(array.astype(dtype.dtype.newbyteorder("="), order="C", copy=True))

    def _frombuffer(self, data: Any, dtype: Any, shape: Any, order: Any = "C") -> Tensor:
        return self.tensor(data, dtype, shape, fortran=order == "F")

    def _scalar(self, dtype: Any, data: Any) -> Any:
        return self.tensor(data, dtype, (), fortran=False).item()

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1" or not isinstance(text, str):
            raise pickle.UnpicklingError(f"text in {str(encoding)[:20]}")
        self.texts.take(len(text))
        return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:  # a pickle stores other bytes directly, and `bytes(n)` would allocate n
        raise pickle.UnpicklingError("bytes made by a call")
    return b""


def ordered(pairs: Any = ()) -> dict[Any, Any]:
    """Make a plain dict instead of an ordered one, from key and value pairs or a dict."""
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, list | tuple) or any(
        not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs
    ):
        raise pickle.UnpicklingError("a dict of something other than pairs")
    return {checked_key(key): value for key, value in pairs}


def array_of(value: Any) -> Tensor:
    """Return the tensor of a pickle's leaf; raises `pickle.UnpicklingError` for other leaves."""
    if isinstance(value, _Array) and value.tensor is not None:
        return value.tensor
    if isinstance(value, Tensor):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__.strip('_')}")


def read_pickle(path: Path) -> Any:
    """Read a pickle of numpy arrays and plain containers, as detectron2 writes them.

    Args:
        path: the file, of any pickle protocol.

    Returns:
        Its dicts, lists, tuples, texts and numbers, each array as a tensor of the same dtype.

    Raises:
        OvsegError: if the pickle uses other names, is truncated, needs more memory than it has
            numbers for, or is not a pickle.
    """
    with (
        pickle_errors(path),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream,
    ):
        content = Machine(Arrays(len(stream)).find).load(stream)
    return plainly(content, path, array_of)


def plainly(content: Any, path: Path, tensor_of: Callable[[Any], Any]) -> Any:
    """Apply `plain` to a file's content, with a one-line error.

    Raises:
        OvsegError: if it has other objects, or containers in themselves.
    """
    try:
        return plain(content, tensor_of)
    except pickle.UnpicklingError as error:
        raise OvsegError(
            f"{path} contains more than arrays and plain containers: {error}"
        ) from error
