"""Folders of models as they come: cut, swapped, emptied, or with a JSON that asks for too much."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from odd_folders import edited, one_line
from safetensors.torch import load_file, save_file
from tiny import RESNET, make_clip

from ovseg.models.clip.load import load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.maskformer.load import load_maskformer, save_maskformer
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSettings

TINY = RESNET.model_copy(
    update={"queries": 3, "decoder_layers": 1, "class_hidden_dim": 16, "embedding_dim": 12}
)


pytestmark = pytest.mark.usefixtures("offline_and_never_asked")


@pytest.fixture
def clip(vocabulary: Path, tmp_path: Path) -> Path:
    """Folder of a small CLIP."""
    return save_clip(make_clip(vocabulary), tmp_path / "clip")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small MaskFormer."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    save_maskformer(
        OpenVocabularyMaskFormer(TINY),
        folder,
        inputs=InputSettings(short_side=32, max_side=64),
        class_names=["a", "b"],
        text_embeddings=torch.randn(2, 12),
    )
    return folder


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def renamed(path: Path) -> None:
    tensors = load_file(path)
    tensors["another"] = tensors.pop(min(tensors))
    save_file(tensors, path)


def reshaped(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].ndim)
    tensors[name] = tensors[name][None].clone()
    save_file(tensors, path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00\x80" * 9),
    "a pipe": fifo,
    "a folder": folder_in_place,
    "a broken link": link_to_nothing,
}
OF_JSON: dict[str, Callable[[Path], object]] = {
    "a list": lambda path: path.write_text("[1, 2]"),
    "a number": lambda path: path.write_text("3"),
    "null": lambda path: path.write_text("null"),
    "an empty object": lambda path: path.write_text("{}"),
    "nested": lambda path: path.write_text("[" * 200_000),
    "a long number": lambda path: path.write_text('{"a": ' + "9" * 10_000 + "}"),
    "not a number": lambda path: path.write_text('{"a": NaN}'),
    "large": lambda path: path.write_text(" " * (2**24 + 1)),
    "null inside": lambda path: edited(path, lambda c: c.update(dict.fromkeys(c))),
    "lists inside": lambda path: edited(path, lambda c: c.update({key: [[]] for key in c})),
    "texts inside": lambda path: edited(path, lambda c: c.update(dict.fromkeys(c, "x"))),
}
OF_WEIGHTS = {"a tensor of another name": renamed, "a tensor of another shape": reshaped}


@pytest.mark.parametrize("damage", [*DAMAGE, *OF_JSON, *OF_WEIGHTS])
def test_odd_clip_folders_are_one_line(clip: Path, damage: str):
    if damage not in OF_WEIGHTS:
        ({**DAMAGE, **OF_JSON})[damage](clip / "open_clip_config.json")
        one_line(lambda: load_clip(str(clip)), "open_clip_config|no CLIP")
    if damage not in OF_JSON and damage != "missing":
        shutil.rmtree(clip)
        one_line(lambda: load_clip(str(clip)), "no CLIP named")


@pytest.mark.parametrize("damage", [*DAMAGE, *OF_WEIGHTS])
def test_odd_weights_of_a_clip_are_one_line(clip: Path, damage: str):
    ({**DAMAGE, **OF_WEIGHTS})[damage](clip / "model.safetensors")
    one_line(lambda: load_clip(str(clip)), "model.safetensors|architecture|another model")


@pytest.mark.parametrize("damage", [each for each in DAMAGE if each != "missing"])
def test_an_odd_vocabulary_of_a_clip_is_one_line(clip: Path, damage: str):
    DAMAGE[damage](clip / "bpe_vocab.txt.gz")
    if damage == "a pipe":  # no regular file is no vocabulary
        one_line(lambda: load_clip(str(clip)), "has 49408 entries")
    else:
        one_line(lambda: load_clip(str(clip)), "vocabulary")


@pytest.mark.parametrize("damage", [*DAMAGE, *OF_JSON])
@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "text_embeddings.safetensors"]
)
def test_odd_maskformer_folders_are_one_line(network: Path, tmp_path: Path, file: str, damage: str):
    if damage in OF_JSON and file != "config.json":
        pytest.skip("JSON alone")
    folder = Path(shutil.copytree(network, tmp_path / "network"))
    ({**DAMAGE, **OF_JSON})[damage](folder / file)
    one_line(lambda: load_maskformer(str(folder)), "config.json|complete|model|cannot be loaded")


@pytest.mark.parametrize("damage", OF_WEIGHTS)
def test_odd_weights_of_a_maskformer_are_one_line(network: Path, tmp_path: Path, damage: str):
    folder = Path(shutil.copytree(network, tmp_path / "network"))
    OF_WEIGHTS[damage](folder / "model.safetensors")
    one_line(lambda: load_maskformer(str(folder)), "not a complete MaskFormer")


def test_a_file_for_a_folder_is_said(tmp_path: Path):
    (tmp_path / "weights.pth").write_bytes(b"x")
    one_line(lambda: load_clip(str(tmp_path / "weights.pth")), "import-checkpoint")
    one_line(lambda: load_maskformer(str(tmp_path / "weights.pth")), "not a folder")


# ------------------------------------------------------------------------------ absurd settings


@pytest.mark.parametrize(
    ("tower", "field", "value", "words"),
    [
        ("vision_cfg", "width", 10**9, "too large"),
        ("vision_cfg", "layers", 10**6, "too large"),
        ("vision_cfg", "layers", 900, "but the weights hold"),
        ("vision_cfg", "width", 32_000, "but the weights hold"),
        ("vision_cfg", "patch_size", 0, "not a CLIP that open_clip knows"),
        ("vision_cfg", "layers", -1, "is not"),
        ("vision_cfg", "image_size", 30_000, "but the weights hold"),
        ("vision_cfg", "width", "32", "is not"),
        ("vision_cfg", "width", True, "is not"),
        ("vision_cfg", "new_field", 1, "unknown field 'new_field'"),
        ("vision_cfg", "timm_model_name", "hf_hub:somebody/model", "not one of timm's own models"),
        ("vision_cfg", "act_kwargs", {"hook": "os.system"}, "unknown field 'hook'"),
        ("text_cfg", "vocab_size", 2**20 + 1, "too large"),
        ("text_cfg", "heads", 7, "not a CLIP that open_clip knows"),
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}, "its own code"),
        ("text_cfg", "tokenizer_kwargs", {"cache_dir": "/tmp"}, "unknown field 'cache_dir'"),
        ("text_cfg", "hf_tokenizer_name", "nobody/nothing", "its own code is never run"),
        ("text_cfg", "hf_model_name", "nobody/nothing", "is not available"),
    ],
)
def test_configurations_that_no_clip_has(
    clip: Path, tower: str, field: str, value: object, words: str
):
    edited(clip / "open_clip_config.json", lambda c: c["model_cfg"][tower].update({field: value}))
    one_line(lambda: load_clip(str(clip)), words)


@pytest.mark.parametrize("std", [[0, 1, 1], [1, 1], "x", [1, 1, 1e30], [1, None, 1]])
def test_pixel_statistics_that_no_clip_has(clip: Path, std: object):
    edited(clip / "open_clip_config.json", lambda c: c["preprocess_cfg"].update(std=std))
    one_line(lambda: load_clip(str(clip)), "std of preprocess_cfg")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("query_dim", 10**9, "too large"),
        ("decoder_layers", 10**9, "too large"),
        ("query_dim", 60_000, "shape|impossible|not a complete"),
        ("decoder_ffn", 65_000, "another shape"),
        ("depths", [1] * 999, "not a complete"),
        ("decoder_heads", 0, "greater than or equal to 1"),
        ("dropout", 2, "less than or equal to 1"),
    ],
)
def test_architectures_that_no_maskformer_has(
    network: Path, tmp_path: Path, field: str, value: object, words: str
):
    folder = Path(shutil.copytree(network, tmp_path / "network"))
    edited(folder / "config.json", lambda c: c["architecture"].update({field: value}))
    one_line(lambda: load_maskformer(str(folder)), words)


@pytest.mark.parametrize(
    ("field", "value"), [("std", [0, 1, 1]), ("mean", [1e400, 0, 0]), ("short_side", 0)]
)
def test_inputs_that_no_maskformer_has(network: Path, tmp_path: Path, field: str, value: object):
    folder = Path(shutil.copytree(network, tmp_path / "network"))
    edited(folder / "config.json", lambda c: c["inputs"].update({field: value}))
    one_line(lambda: load_maskformer(str(folder)))
