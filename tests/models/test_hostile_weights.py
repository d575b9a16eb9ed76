"""Small weights files that ask for much, weights that are not finite: refused in one line."""

import io
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from published_weights import SMALL, clip_state, ovseg_state, save_archive, save_ovseg
from safetensors.torch import load_file, save, save_file
from tiny import make_clip

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.clip_names import clip_configuration
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.checkpoints.importing import import_checkpoint
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.weights.files import check_finite, named_tensors, read_safetensors, read_weights

ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01%s"
    b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89%stb"
)
BILLIONS = b"\x8a\x05\x00^\xd0\xb2\x00"  # three thousand million
DOUBLED = b"".join(b"h%cq%c\x86" % (0, 0) for _ in range(60))
PROGRAMS = {
    "bytes of a number": ARRAY % (BILLIONS + b"\x85", b"cbuiltins\nbytes\n(" + BILLIONS + b"tR"),
    "a text of 2 GB": b"X\xff\xff\xff\x7f",
    "bytes of 2**60": b"\x8e" + struct.pack("<Q", 2**60),
    "a byte array of 2**60": b"\x96" + struct.pack("<Q", 2**60),
    "a number of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "a memo of 2**31 places": b"Nr\xff\xff\xff\x7f0)cnowhere\nnothing\n",
    "a key whose hash takes years": b"}K\x01" + b"2\x86" * 60 + b"K\x01s",
    "a tuple doubled sixty times over": b"K\x01" + b"2\x86" * 100,
    "lists a thousand deep": b"]" * 2000 + b"a" * 1999,
    "one array's numbers a thousand times": b"]q\x05(B\x00\x04\x00\x00" + b"x" * 1024 + b"q\x00"
    + (ARRAY % (b"M\x00\x04\x85", b"h\x00")) * 1000 + b"e",
    "one text encoded a thousand times": b"](X\x00\x10\x00\x00" + b"x" * 4096 + b"q\x00"
    + b"c_codecs\nencode\nq\x01(h\x00X\x06\x00\x00\x00latin1tR" * 3000 + b"e",
    "numbers as keys that share a hash": b"}\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x1fK\x01s",
    "an ordered dict of bytes": b"ccollections\nOrderedDict\n(" + BILLIONS + b"tR",
    "the state of a class": b"cnumpy\ndtype\n}b",
    "an old class": b"(inumpy\ndtype\n",
}  # fmt: skip


def peak() -> int:
    """The most memory this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def refused(path: Path, words: str | None = None) -> None:
    """Reading it is an error of one line, and takes next to no memory."""
    before = peak()
    with pytest.raises(OvsegError, match=words) as error:
        read_weights(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert str(path) in str(error.value)
    assert peak() - before < 100


@pytest.mark.parametrize("name", PROGRAMS)
def test_pickles_that_ask_for_much_are_refused(tmp_path: Path, name: str):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02" + PROGRAMS[name] + b".")
    refused(path)


def test_a_container_that_stands_twice_is_one_object(tmp_path: Path):
    inner = {"a": np.ones(3, dtype=np.float32)}
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"x": inner, "y": inner, "z": [inner] * 1000}))
    found = read_weights(path).content
    assert found["x"] is found["y"] is found["z"][999] and found["x"]["a"].sum() == 3


def torch_file(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_show_no_more_than_their_storage(tmp_path: Path, zipped: bool):
    def saved(content: object) -> Path:
        return torch_file(tmp_path / "weights.pth", content, _use_new_zipfile_serialization=zipped)

    refused(saved({"a": torch.zeros(1).expand(2**40)}), "uses one number many times")
    overlapping = torch.zeros(1999).as_strided((1000, 1000), (1, 1))
    refused(saved({"a": overlapping}), "beyond its storage")
    whole = torch.zeros(100_000)
    refused(saved({f"layer{n}": whole[:] for n in range(40)}), "more memory than the file")
    tied = read_weights(saved({"a": whole, "b": whole, "c": whole.reshape(100, -1)[:, 3]})).content
    assert torch.equal(tied["a"], tied["b"]) and tied["c"].shape == (100,)


def test_one_tensor_of_many_names_is_refused(tmp_path: Path):
    tensor = torch.zeros(100_000)
    path = torch_file(tmp_path / "weights.pth", {f"layer{n}": tensor for n in range(40)})
    with pytest.raises(OvsegError, match="repeats the same numbers"):
        named_tensors(read_weights(path), path)


def members(path: Path, change: str) -> Path:
    """The archive, its numbers packed, twice there, or where another member's are."""
    out = path.with_name("changed.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            packed = change == "packed" and name.endswith("data/0")
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED if packed else None)
        if change == "twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                new.writestr(old.namelist()[0], b"")
        if change == "shared":
            two = [info for info in new.infolist() if "/data/" in info.filename]
            two[1].header_offset = two[0].header_offset
    return out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("packed", "compressed, which torch never does"),
        ("twice", "duplicate or overlaps"),
        ("shared", "duplicate or overlaps"),
    ],
)
def test_members_are_stored_once_and_apart(tmp_path: Path, change: str, words: str):
    tensors = {"a": torch.zeros(2**16), "b": torch.ones(2**16)}
    refused(members(torch_file(tmp_path / "a.pth", tensors), change), words)


def test_a_packed_gigabyte_is_never_unpacked(tmp_path: Path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26))
        archive.writestr("archive/constants.pkl", b"")
    refused(path, "compressed")


def test_a_program_in_an_archive_stays_packed(tmp_path: Path):
    path = save_archive(clip_state(prompts=0), tmp_path / "clip.pt")
    with zipfile.ZipFile(path) as archive:
        assert any(info.compress_type for info in archive.infolist())
    assert read_weights(path).format == "torchscript"


def test_a_module_in_itself_is_refused(tmp_path: Path):
    path = tmp_path / "clip.pt"
    program = b"\x80\x02c__torch__\nM\n)\x81q\x00}U\x04selfh\x00sb."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/constants.pkl", b"")
    refused(path, "modules in themselves")


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2**24 + 8) + b"{" + b" " * (2**24 + 7),
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}',
        struct.pack("<Q", 58) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9999999]}}  ',
        struct.pack("<Q", 4) + b"{{{{",
        b"\x01",
        b"",
    ],
)
def test_headers_of_safetensors_that_lie_are_refused(tmp_path: Path, header: bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(header)
    before = peak()
    with pytest.raises(OvsegError, match="is damaged") as error:
        read_safetensors(path)
    assert "\n" not in str(error.value) and peak() - before < 100


def test_a_name_does_not_decide_how_much_is_built(tmp_path: Path):
    state = clip_state(prompts=0)
    state["transformer.resblocks.2000000000.ln_1.bias"] = torch.zeros(64)
    layers = clip_configuration(state, quick_gelu=True)["text_cfg"]["layers"]
    assert layers < 10
    with pytest.raises(OvsegError, match=r"missing transformer\.resblocks\.\d\."):
        import_checkpoint(torch_file(tmp_path / "a.pt", state), tmp_path / "out")
    many = {f"transformer.resblocks.{n}.ln_1.bias": torch.zeros(1) for n in range(1001)}
    with pytest.raises(OvsegError, match="more than 1000"):
        clip_configuration(clip_state(prompts=0) | many, quick_gelu=True)


# ------------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_number_that_is_not_finite_is_found(number: float, dtype: torch.dtype):
    weights = torch.randn(40, 50).to(dtype)
    check_finite({"a": weights, "n": torch.tensor([3]), "e": torch.zeros(0)}, "x.pth")
    weights[39, 49] = number
    with pytest.raises(OvsegError, match=r"x\.pth: weights are not finite \(a\)"):
        check_finite({"a": weights}, "x.pth")


def test_weights_that_are_not_finite_are_not_imported(tmp_path: Path):
    state = ovseg_state()
    name = next(name for name in state if name.endswith("visual.proj"))
    for number in (float("nan"), float("inf")):
        state[name][0, 0] = number
        source = save_ovseg(state, tmp_path / "a.pth")
        with pytest.raises(OvsegError, match=r"a\.pth: weights are not finite \(.*visual\.proj\)"):
            import_checkpoint(source, tmp_path / "out", **SMALL)
        (tmp_path / "b.safetensors").write_bytes(save(state))
        with pytest.raises(OvsegError, match="weights are not finite"):
            import_checkpoint(tmp_path / "b.safetensors", tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def spoiled(path: Path) -> None:
    """One number of a safetensors file becomes none."""
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    tensors[name] = tensors[name].clone()
    tensors[name].flatten()[7] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_clip_that_is_not_finite_is_not_loaded(vocabulary: Path, tmp_path: Path):
    folder = save_clip(make_clip(vocabulary, prompt_depth=2), tmp_path / "clip")
    for file in ("mask_prompts.safetensors", "model.safetensors"):
        spoiled(folder / file)
        with pytest.raises(OvsegError, match="weights are not finite") as error:
            load_clip(str(folder))
        assert "\n" not in str(error.value)
    with pytest.raises(OvsegError, match="weights are not finite"):
        export_checkpoint(str(folder), tmp_path / "out.pt", layout="open_clip")
    assert not (tmp_path / "out.pt").exists()


def test_archives_and_old_files_still_hold_what_they_held(tmp_path: Path):
    torch.manual_seed(0)
    content = {
        "state_dict": {
            "a": torch.nn.Parameter(torch.randn(4, 3).t()),
            "b": torch.randn(6).bfloat16()[2:],
            "c": torch.tensor(7),
            "d": torch.tensor([True, False]),
            "e": torch.zeros(0, 3),
        },
        "epoch": 3,
        "best": np.float64(0.5),
        "shape": torch.Size([2, 3]),
        "dtype": torch.float32,
        "betas": (0.9, 0.98),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    for zipped in (True, False):
        path = torch_file(tmp_path / "a.pth", content, _use_new_zipfile_serialization=zipped)
        found = read_weights(path).content
        assert found["epoch"] == 3 and found["betas"] == (0.9, 0.98) and found["best"] == 0.5
        for name, tensor in content["state_dict"].items():
            assert torch.equal(found["state_dict"][name], tensor), name
            assert found["state_dict"][name].dtype == tensor.dtype


def test_an_archive_in_several_parts_is_one_line(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(2)}, path)
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2)  # of two disks
    path.write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(OvsegError, match="has no end") as error:
        read_weights(path)
    assert "\n" not in str(error.value)
