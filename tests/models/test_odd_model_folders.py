"""Folders of models as they come: cut, swapped, emptied, or with a JSON that asks for too much."""

import builtins
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from random_sam import random_sam
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toy_clips import CONFIG, make_clip
from transformers import Dinov2Config, Dinov2Model

from ovseg.errors import OvsegError
from ovseg.models.clip.load import clip_digest, create_clip, load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.maskformer import load as maskformer
from ovseg.models.maskformer.load import load_maskformer, save_maskformer
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSettings
from ovseg.models.proposals.patch_features import load_patch_features
from ovseg.models.proposals.sam import load_sam

TINY = Architecture(
    backbone="resnet",
    backbone_dim=8,
    depths=(1, 1, 1, 1),
    heads=(),
    drop_path=0.0,
    feature_dim=32,
    mask_dim=32,
    query_dim=32,
    queries=3,
    decoder_layers=1,
    decoder_heads=2,
    decoder_ffn=32,
    class_hidden_dim=16,
    embedding_dim=12,
)


@pytest.fixture(autouse=True)
def _offline_and_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    maskformer._load.cache_clear()


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


def one_line(call: Callable[[], object], words: str | None = None) -> str:
    with pytest.raises(OvsegError, match=words) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


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
    one_line(lambda: load_maskformer(str(folder)), "config.json|whole|model|cannot be loaded")


@pytest.mark.parametrize("damage", OF_WEIGHTS)
def test_odd_weights_of_a_maskformer_are_one_line(network: Path, tmp_path: Path, damage: str):
    folder = Path(shutil.copytree(network, tmp_path / "network"))
    OF_WEIGHTS[damage](folder / "model.safetensors")
    one_line(lambda: load_maskformer(str(folder)), "not a whole MaskFormer")


def test_a_file_for_a_folder_is_said(tmp_path: Path):
    (tmp_path / "weights.pth").write_bytes(b"x")
    one_line(lambda: load_clip(str(tmp_path / "weights.pth")), "import-checkpoint")
    one_line(lambda: load_maskformer(str(tmp_path / "weights.pth")), "not a folder")


# ------------------------------------------------------------------------------ absurd settings


@pytest.mark.parametrize(
    ("tower", "field", "value", "words"),
    [
        ("vision_cfg", "width", 10**9, "beyond any model"),
        ("vision_cfg", "layers", 10**6, "beyond any model"),
        ("vision_cfg", "layers", 900, "where the weights hold"),
        ("vision_cfg", "width", 32_000, "where the weights hold"),
        ("vision_cfg", "patch_size", 0, "not a CLIP that open_clip knows"),
        ("vision_cfg", "layers", -1, "is not"),
        ("vision_cfg", "image_size", 30_000, "where the weights hold"),
        ("vision_cfg", "width", "32", "is not"),
        ("vision_cfg", "width", True, "is not"),
        ("vision_cfg", "new_field", 1, "unknown field 'new_field'"),
        ("vision_cfg", "timm_model_name", "hf_hub:somebody/model", "no model of timm's own"),
        ("vision_cfg", "act_kwargs", {"hook": "os.system"}, "unknown field 'hook'"),
        ("text_cfg", "vocab_size", 2**20 + 1, "beyond any model"),
        ("text_cfg", "heads", 7, "not a CLIP that open_clip knows"),
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}, "code of its own"),
        ("text_cfg", "tokenizer_kwargs", {"cache_dir": "/tmp"}, "unknown field 'cache_dir'"),
        ("text_cfg", "hf_tokenizer_name", "nobody/nothing", "code of its own is never run"),
        ("text_cfg", "hf_model_name", "nobody/nothing", "cannot be had"),
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
        ("query_dim", 10**9, "beyond any model"),
        ("decoder_layers", 10**9, "beyond any model"),
        ("query_dim", 60_000, "shape|impossible|not a whole"),
        ("decoder_ffn", 65_000, "another shape"),
        ("depths", [1] * 999, "not a whole"),
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


# -------------------------------------------------------------------------- code of a folder's own


def words_tokenizer(folder: Path) -> Path:
    """A tokenizer of eight words, as `transformers` writes one."""
    words = ["[PAD]", "[UNK]", "a", "photo", "of", "cat", "tree", "[EOS]"]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [EOS]", special_tokens=[("[EOS]", 7)]
    )
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
            | {"unk_token": "[UNK]", "eos_token": "[EOS]"}
        )
    )
    return folder


def hugging_face_clip(folder: Path) -> Path:
    """A CLIP whose texts a tokenizer of `transformers` reads, which lies beside its weights."""
    text = {**CONFIG["text_cfg"], "vocab_size": 8, "hf_tokenizer_name": "nobody/nothing"}
    config = {**CONFIG, "text_cfg": {**text, "tokenizer_kwargs": {"clean": "canonicalize"}}}
    words_tokenizer(folder)
    torch.manual_seed(0)
    return save_clip(create_clip(config, vocabulary=folder), folder)


def test_a_clip_with_a_tokenizer_of_transformers_is_loaded_and_saved(tmp_path: Path):
    folder = hugging_face_clip(tmp_path / "clip")
    model = load_clip(str(folder))
    ids = model.tokenizer(["a photo of a cat!"])
    assert ids.tolist() == [[2, 3, 4, 2, 5, 7, 0, 0, 0, 0, 0, 0]]
    again = load_clip(str(save_clip(model, tmp_path / "again")))
    assert torch.equal(model.encode_texts(["tree"]), again.encode_texts(["tree"]))
    before = clip_digest(str(folder))
    edited(folder / "tokenizer.json", lambda c: c["model"]["vocab"].update(cat=6, tree=5))
    assert clip_digest(str(folder)) != before


def test_a_tokenizer_with_more_words_than_the_model_is_refused(tmp_path: Path):
    folder = hugging_face_clip(tmp_path / "clip")
    edited(folder / "tokenizer.json", lambda c: c["model"]["vocab"].update(dog=8, sky=9))
    one_line(lambda: load_clip(str(folder)), "has 10 entries, the model 8")


CODE = "import pathlib\npathlib.Path({!r}).write_text('ran')\n"


def test_code_beside_a_tokenizer_is_not_run(tmp_path: Path):
    mark = tmp_path / "ran"
    folder = hugging_face_clip(tmp_path / "clip")
    (folder / "evil.py").write_text(
        CODE.format(str(mark)) + "from transformers import PreTrainedTokenizerFast\n"
        "class Evil(PreTrainedTokenizerFast):\n    pass\n"
    )
    edited(
        folder / "tokenizer_config.json",
        lambda c: c.update(tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil"] * 2}),
    )
    try:
        load_clip(str(folder))
    except OvsegError as error:
        assert "never run" in str(error)
    assert not mark.exists()


def vision_transformer(folder: Path) -> None:
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)


def segment_anything(folder: Path) -> None:
    network, processor = random_sam("sam")
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "load"),
    [(vision_transformer, load_patch_features), (segment_anything, load_sam)],
)
def test_code_beside_other_models_is_not_run(
    tmp_path: Path, make: Callable[[Path], None], load: Callable[[str], object]
):
    folder, mark = tmp_path / "model", tmp_path / "ran"
    make(folder)
    (folder / "evil.py").write_text(CODE.format(str(mark)) + "class Evil:\n    pass\n")
    names = ("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoBackbone")
    whole = (folder / "config.json").read_text()
    for place in ("own", "nested"):
        (folder / "config.json").write_text(whole)
        code = {"auto_map": dict.fromkeys(names, "evil.Evil"), "model_type": "evil"}
        if place == "nested":
            code = {"vision_config": code}
        edited(folder / "config.json", lambda c, code=code: c.update(code))
        one_line(lambda: load(str(folder)), r"code of its own \(auto_map\), which is never run")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("make", "load"),
    [(vision_transformer, load_patch_features), (segment_anything, load_sam)],
)
def test_other_models_that_are_not_finite_or_absurd_are_refused(
    tmp_path: Path, make: Callable[[Path], None], load: Callable[[str], object]
):
    folder = tmp_path / "model"
    make(folder)
    tensors = load_file(folder / "model.safetensors")
    name = max(tensors, key=lambda each: tensors[each].numel())
    tensors[name] = torch.full_like(tensors[name], float("inf"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    one_line(lambda: load(str(folder)), "weights are not finite")
    edited(folder / "config.json", lambda c: c.update(num_hidden_layers=10**9))
    one_line(lambda: load(str(folder)), "beyond any model")
