"""Read torch's own files as data: zip archives, TorchScript archives, and the older format.

Torch itself does not read them. A zip's members must be uncompressed, unique and disjoint, so that
they hold no more than the file does (a program is compressed, and ignored); the pickle inside is
read by `ovseg.models.weights.pickle_machine`; a tensor is a view of the mapped file that uses no
number twice, and all tensors together are at most `MOST_VIEWS` times the file.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.weights.pickle_machine import Built, Machine, Room, Stand
from ovseg.models.weights.safe_pickle import Arrays, array_of, ordered, pickle_errors, plainly

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
"""The names of storages in a file."""
MOST_MEMBERS = 100_000
MOST_VIEWS = 4
"""Maximum total size of tensors, in files: tensors may share a storage, as tied weights do."""
CHUNK = 2**20
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Header of a zip's member: magic number, and the lengths of its name and extra field."""


class _Module(Built):
    """An object of a TorchScript archive: its attributes by name."""

    def __init__(self) -> None:
        self.attributes: Mapping[str, Any] = {}

    def build(self, state: Any) -> None:
        """Set the attributes."""
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module whose state is not a dict")
        self.attributes = state


class _Storage:
    """The numbers of tensors: `count` of them from byte `start` of `whole`."""

    def __init__(self, whole: Any, start: int, count: int, dtype: torch.dtype) -> None:
        self.count, self.dtype = count, dtype
        self.part = whole[start : start + count * dtype.itemsize]


class _Tensors(Arrays):
    """Stand-ins for torch's names in addition to numpy's."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.views = Room(MOST_VIEWS * size)
        self.names |= {
            "collections.Counter": Stand(ordered),
            "collections.defaultdict": Stand(lambda *_: {}),
            "torch.Size": Stand(lambda sizes=(): tuple(sizes)),
            "torch.device": Stand(lambda *parts: str(parts[0])[:20]),
            "torch.serialization._get_layout": Stand(lambda name: str(name)[:40]),
            "torch._utils._rebuild_tensor": Stand(self._rebuild),
            "torch._utils._rebuild_tensor_v2": Stand(self._rebuild),
            "torch._utils._rebuild_parameter": Stand(lambda tensor, *_: array_of(tensor)),
            "torch._utils._rebuild_sparse_tensor": Stand(_sparse),
            "torch.jit._pickle.restore_type_tag": Stand(lambda values, _: values),
        }
        for tag in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"):
            self.names[f"torch.jit._pickle.{tag}"] = Stand(lambda values: values)
        for dtype in {*STORAGES.values()}:
            self.names[str(dtype)] = str(dtype)
        self.names |= {f"torch.{name}": name for name in STORAGES}

    def _rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        if not isinstance(storage, _Storage) or {type(size), type(stride)} - {tuple, list}:
            raise pickle.UnpicklingError("a tensor of a strange shape")
        whole = (offset, *size, *stride)
        if len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2**62 for n in whole):
            raise pickle.UnpicklingError("a tensor of a strange shape")
        if any(n > 1 and step == 0 for n, step in zip(size, stride)):
            raise pickle.UnpicklingError("a tensor that uses one number many times")
        numbers = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if numbers and (last >= storage.count or numbers > storage.count):
            raise pickle.UnpicklingError("a tensor beyond its storage")
        self.views.take(numbers * storage.dtype.itemsize)
        if not numbers:
            return torch.empty(tuple(size), dtype=storage.dtype)
        view = torch.empty(0, dtype=storage.dtype)
        return view.set_(storage.part, offset, tuple(size), tuple(stride))


def _sparse(*_: Any) -> Tensor:
    """Return an empty sparse tensor, which readers of weights reject."""
    return torch.zeros(1).to_sparse()


# --------------------------------------------------------------------------------------
# Zip archives


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with its code's constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False
    return any(name.partition("/")[2] == "constants.pkl" for name in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript archive; its program is neither compiled nor run.

    Args:
        path: an archive for which `is_torchscript` is true.

    Returns:
        Each tensor by its dotted name, in the archive's order and dtype, on the CPU.

    Raises:
        OvsegError: if the archive is damaged, or has objects other than modules and tensors.
    """
    content = _Archive(path).load()
    if not isinstance(content, _Module):
        raise OvsegError(f"{path} is a TorchScript archive of something other than a module")
    with pickle_errors(path):
        return dict(_tensors(content, "", ()))


def read_archive(path: Path) -> Any:
    """Read a torch file of version 1.6 or later: plain containers and tensors on the CPU.

    Raises:
        OvsegError: if the archive is damaged, its members are compressed, overlapping or duplicate,
            or it has objects other than containers, numbers, texts and tensors.
    """
    return plainly(_Archive(path).load(), path, array_of)


class _Archive:
    """A zip archive of torch, checked and mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = _members(archive, path)
        except (
            EOFError,
            NotImplementedError,
            OSError,
            RuntimeError,
            ValueError,
            struct.error,
            zipfile.BadZipFile,
        ) as error:
            reason = " ".join(str(error).split())[:120]
            raise OvsegError(
                f"{path} is a damaged archive ({reason}): download it again"
            ) from error
        data = [name for name in self.members if name.partition("/")[2] == "data.pkl"]
        if len(data) != 1:
            raise OvsegError(
                f"{path} is a damaged torch archive, without one data.pkl: download it again"
            )
        self.root = data[0].removesuffix("data.pkl")
        self.size = path.stat().st_size
        self.whole: Any = torch.UntypedStorage.from_file(str(path), False, self.size)
        self.storages: dict[str, _Storage] = {}

    def load(self) -> Any:
        """Read the content of the archive's pickle."""
        if self._read("byteorder", b"little") != b"little":
            raise OvsegError(f"{self.path} was written on a big-endian machine: convert it")
        tensors = _Tensors(self.size)

        def find(name: str) -> Any:
            # classes of a TorchScript program are only named attributes
            return Stand(_Module) if name.startswith("__torch__.") else tensors.find(name)

        with pickle_errors(self.path):
            program = io.BytesIO(self._read("data.pkl", b""))
            return Machine(find, self._storage).load(program)

    def _read(self, name: str, default: bytes) -> bytes:
        if f"{self.root}{name}" not in self.members:
            return default
        start, size = self.members[f"{self.root}{name}"]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def _storage(self, pid: Any) -> _Storage:
        kind, name, key, _, count = pid
        if kind != "storage" or name not in STORAGES or type(count) is not int:
            raise pickle.UnpicklingError(f"a {str(name)[:40]}")
        if key not in self.storages:
            start, size = self.members[f"{self.root}data/{key}"]
            if size != count * STORAGES[name].itemsize:
                raise pickle.UnpicklingError(f"storage {key} truncated")
            self.storages[key] = _Storage(self.whole, start, count, STORAGES[name])
        storage = self.storages[key]
        if (storage.dtype, storage.count) != (STORAGES[name], count):
            raise pickle.UnpicklingError(f"storage {key} of two types")
        return storage


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, tuple[int, int]]:
    """Return start and size in bytes of the disjoint members to read.

    The compressed program of a TorchScript archive is ignored.
    """
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    if len(members) > MOST_MEMBERS:
        raise OvsegError(f"{path} has {len(members)} members, more than any weights: use another")
    places: dict[str, tuple[int, int]] = {}
    behind = 0
    with path.open("rb") as file:
        for member in members:
            name = member.filename[:80]
            file.seek(member.header_offset)
            magic, *lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
            start = member.header_offset + LOCAL_HEADER.size + sum(lengths)
            end = start + member.compress_size
            shared = member.header_offset < behind or end > archive.start_dir
            if magic != b"PK\x03\x04" or shared or member.filename in places:
                raise OvsegError(
                    f"{path} is a damaged archive: {name} is a duplicate or overlaps another"
                    " member; download it again"
                )
            behind = end
            if member.filename.partition("/")[2].startswith("code/"):
                continue
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != end - start:
                raise OvsegError(
                    f"{path} has {name} compressed, which torch never does: unzip it and zip it"
                    " without compression"
                )
            file.seek(start)
            checksum = 0
            for place in range(0, member.file_size, CHUNK):
                checksum = zlib.crc32(file.read(min(CHUNK, member.file_size - place)), checksum)
            if checksum != member.CRC:
                raise OvsegError(
                    f"{path} is damaged: the checksum of {name} differs, download it again"
                )
            places[member.filename] = (start, member.file_size)
    return places


def _tensors(
    module: _Module, prefix: str, above: tuple[_Module, ...]
) -> Iterator[tuple[str, Tensor]]:
    if len(above) > 64 or module in above:
        raise pickle.UnpicklingError("modules in themselves")
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.", (*above, module))


# --------------------------------------------------------------------------------------
# Before version 1.6


def read_old(path: Path) -> Any:
    """Read a torch file from before version 1.6: pickles, followed by the numbers.

    Raises:
        OvsegError: as for `read_archive`.
    """
    with (
        pickle_errors(path),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream,
    ):
        content = _old(stream, path)
    return plainly(content, path, array_of)


def _old(stream: mmap.mmap, path: Path) -> Any:
    tensors, room = _Tensors(len(stream)), Room(len(stream))
    storages: dict[str, _Storage] = {}

    def storage_of(pid: Any) -> _Storage:
        kind, name, key, _, count, view = pid
        if kind != "storage" or name not in STORAGES or view is not None:
            raise pickle.UnpicklingError(f"a {str(name)[:40]}, or a view of one")
        if type(count) is not int or count < 0 or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage of a strange size")
        if key not in storages:
            size = count * STORAGES[name].itemsize
            room.take(size)
            storages[key] = _Storage(
                torch.empty(size, dtype=torch.uint8).untyped_storage(), 0, count, STORAGES[name]
            )
        if (storages[key].dtype, storages[key].count) != (STORAGES[name], count):
            raise pickle.UnpicklingError(f"storage {key} of two types")
        return storages[key]

    def read(persistent: Any = None) -> Any:
        return Machine(tensors.find, persistent).load(stream)

    _, _, machine = read(), read(), read()  # magic number, version, the machine that wrote it
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise OvsegError(f"{path} was written on a big-endian machine: convert it")
    content = read(storage_of)
    keys = read()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise pickle.UnpicklingError("storages truncated")
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack("<q", stream.read(8).ljust(8, b"\xff"))
        size = storage.count * storage.dtype.itemsize
        data = stream.read(size)
        if count != storage.count or len(data) != size:
            raise pickle.UnpicklingError("storages truncated")
        if size:
            target = torch.empty(0, dtype=torch.uint8).set_(storage.part)
            target.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return content
