"""Pickled weights are read and nothing in them is run."""

import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from published_weights import clip_state, save_archive
from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.weights.files import read_weights
from ovseg.models.weights.safe_pickle import read_pickle
from ovseg.models.weights.torch_archives import is_torchscript, read_torchscript


class Evil:
    """Unpickled, it runs a command."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_and_plain_containers_come_back(tmp_path: Path, protocol: int):
    arrays = {
        "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "half": np.ones(4, dtype=np.float16),
        "empty": np.zeros((0, 3), dtype=np.int64),
        "scalar": np.array(2.5, dtype=np.float32),
        "bool": np.array([True, False]),
    }
    content = {
        "model": OrderedDict(arrays),
        "__author__": "somebody",
        "matching_heuristics": True,
        "numbers": [1, 2.5, None, (3, "é")],
        "number": np.float32(0.5),
    }
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_pickle(path)
    assert list(found["model"]) == list(arrays)
    for name, array in arrays.items():
        tensor = found["model"][name]
        assert isinstance(tensor, torch.Tensor) and tuple(tensor.shape) == array.shape
        assert tensor.numpy().dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(tensor.numpy(), array)
    assert found["numbers"] == [1, 2.5, None, (3, "é")] and found["number"] == 0.5
    assert found["__author__"] == "somebody" and found["matching_heuristics"] is True


@pytest.mark.parametrize(
    ("call", "arguments", "name"),
    [
        (os.system, ("touch {}",), "system"),
        (eval, ("open({!r}, 'w')",), "eval"),
        (subprocess.Popen, (["touch", "{}"],), "Popen"),
        (np.load, ("{}",), "load"),
        (getattr, (np, "load"), "getattr"),
    ],
)
@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path, call, arguments, name, kind):
    mark = tmp_path / "ran"
    told = tuple(
        [a.format(str(mark)) for a in argument]
        if isinstance(argument, list)
        else (argument.format(str(mark)) if isinstance(argument, str) else "x")
        for argument in arguments
    )
    path = tmp_path / "weights.pth"
    content = {"model": Evil(call, *told)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(OvsegError, match=f"asks for .*{name}.*nothing was run") as error:
        read_weights(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not mark.exists()


def test_state_for_what_a_pickle_names_is_refused(tmp_path: Path):
    """A pickle may not alter the functions that stand in for numpy's."""
    path = tmp_path / "weights.pkl"
    # BUILD with a dict on the function _codecs.encode, then on the class numpy.dtype
    for name in (b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n"):
        path.write_bytes(b"\x80\x02" + name + b"}X\x05\x00\x00\x00_callX\x01\x00\x00\x00xsb.")
        with pytest.raises(OvsegError, match="cannot be read as"):
            read_pickle(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": np.array([{"b": 1}], dtype=object)}, "an array of type"),
        ({"a": np.zeros(2, dtype=[("x", "f4")])}, "an array of type"),
        ({"a": np.array(["text"])}, "an array of type"),
        ({"a": {1, 2}}, "EMPTY_SET"),
        ({"a": np.dtype("f4")}, "a DType"),
        (Path("x"), "asks for pathlib"),
        ({"a": torch.zeros(2)}, "asks for torch"),
    ],
)
def test_what_is_no_array_is_refused(tmp_path: Path, content, reason):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(OvsegError, match=reason):
        read_pickle(path)


def test_a_container_in_itself_is_refused(tmp_path: Path):
    loop: dict = {}
    loop["again"] = loop
    (tmp_path / "loop.pkl").write_bytes(pickle.dumps(loop))
    with pytest.raises(OvsegError, match="more than arrays"):
        read_pickle(tmp_path / "loop.pkl")


def test_every_truncation_of_a_pickle_is_an_error_of_one_line(tmp_path: Path):
    whole = pickle.dumps({"model": {"a": np.arange(8, dtype=np.float32)}}, protocol=2)
    path = tmp_path / "cut.pkl"
    for length in range(2, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(OvsegError, match=r"truncated|cannot be read") as error:
            read_weights(path)
        assert "\n" not in str(error.value)


def test_an_array_that_says_it_is_larger_is_refused(tmp_path: Path):
    whole = pickle.dumps(np.zeros(3, dtype=np.float32), protocol=2)
    assert whole.count(b"K\x03\x85") == 1  # its shape, (3,)
    path = tmp_path / "weights.pkl"
    path.write_bytes(whole.replace(b"K\x03\x85", b"K\xff\x85"))
    with pytest.raises(OvsegError, match="truncated"):
        read_pickle(path)


# ------------------------------------------------------------------------- TorchScript archives


class Various(nn.Module):
    """Attributes of the kinds an archive may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4).t())  # not contiguous
        self.wide = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.brain = nn.Parameter(torch.randn(3).bfloat16())
        self.layers = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1))
        self.names = ["a", "b"]
        self.sizes = [1, 2]
        self.pair = (1, "x")

    def forward(self, x):
        return self.layers(x)


def test_an_archive_gives_its_tensors_without_being_loaded(tmp_path: Path, monkeypatch):
    torch.manual_seed(0)
    module = Various()
    path = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(module), path)
    expected = torch.jit.load(path).state_dict()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the archive's program was loaded")

    monkeypatch.setattr(torch.jit, "load", forbidden)
    assert is_torchscript(path)
    found = read_torchscript(path)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert read_weights(path).format == "torchscript"


def test_a_torch_file_is_no_archive(tmp_path: Path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    assert not is_torchscript(tmp_path / "a.pt")
    (tmp_path / "text").write_text("PK")
    assert not is_torchscript(tmp_path / "text")


def rewritten(path: Path, changes: dict[str, bytes | None]) -> Path:
    """An archive with some members replaced, or left out where None."""
    out = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.namelist():
            data = changes.get(member.partition("/")[2], old.read(member))
            if data is not None:
                new.writestr(member, data)
    return out


def test_damaged_archives_are_refused(tmp_path: Path):
    path = save_archive(clip_state(prompts=0), tmp_path / "clip.pt")
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        first = archive.read(f"{root}/data/0")
        program = archive.read(f"{root}/data.pkl")
    evil = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."
    for changes, words in (
        ({"data/0": first[:-2]}, "truncated"),
        ({"data/0": None}, "cannot be read as"),
        ({"data.pkl": program[:200]}, "truncated|cannot be read"),
        ({"data.pkl": None}, "damaged"),
        ({"data.pkl": evil}, r"asks for posix\.system"),
        ({"data.pkl": b"\x80\x02}."}, "something other than a module"),
        ({"byteorder": b"big"}, "big-endian"),
    ):
        with pytest.raises(OvsegError, match=words) as error:
            read_weights(rewritten(path, changes))
        assert "\n" not in str(error.value)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OvsegError, match="truncated"):
        read_weights(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path):
    holder = nn.Module()
    holder.register_buffer("a", torch.arange(5.0))
    path = tmp_path / "a.pt"
    torch.jit.save(torch.jit.script(holder), path)
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        program = archive.read(f"{root}/data.pkl")
    assert program.count(b"K\x05") == 2  # numbers in the storage, and the shape
    place = program.rindex(b"K\x05")
    longer = program[:place] + b"K\x06" + program[place + 2 :]
    with pytest.raises(OvsegError, match="beyond its storage"):
        read_torchscript(rewritten(path, {"data.pkl": longer}))


# ------------------------------------------------------------------------------ no weights at all


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"just some text\n", "text that starts with 'just some"),
        (b"<!DOCTYPE html><html>Google Drive - Quota exceeded</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\xff", "starts with the bytes 89 50"),
        (b"PK\x03\x04 and then nothing", "truncated"),
        (b"\x80\x02", "truncated|cannot be read"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json      }", "damaged"),
    ],
)
def test_what_is_no_weights_file_is_said(tmp_path: Path, content, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(OvsegError, match=words) as error:
        read_weights(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(OvsegError, match="No such file"):
        read_weights(tmp_path / "gone.pth")
    with pytest.raises(OvsegError, match="directory"):
        read_weights(tmp_path)


def test_truncated_torch_files_are_refused(tmp_path: Path):
    for zipped in (True, False):
        path = tmp_path / "weights.pth"
        torch.save({"model": {"a": torch.randn(200)}}, path, _use_new_zipfile_serialization=zipped)
        assert read_weights(path).format == "torch"
        whole = path.read_bytes()
        for share in (0.2, 0.5, 0.9):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(OvsegError, match=r"truncated|damaged") as error:
                read_weights(path)
            assert "\n" not in str(error.value)
