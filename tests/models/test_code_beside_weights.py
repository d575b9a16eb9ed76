"""Folders of transformers' models: their code is not run, their tokenizers are read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from odd_folders import edited, one_line
from random_sam import random_sam
from safetensors.torch import load_file, save_file
from tiny import CLIP
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import Dinov2Config, Dinov2Model

from ovseg.errors import OvsegError
from ovseg.models.clip.load import clip_digest, create_clip, load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.proposals.patch_features import load_patch_features
from ovseg.models.proposals.sam import load_sam

pytestmark = pytest.mark.usefixtures("offline_and_never_asked")


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
    text = {**CLIP["text_cfg"], "vocab_size": 8, "hf_tokenizer_name": "nobody/nothing"}
    config = {**CLIP, "text_cfg": {**text, "tokenizer_kwargs": {"clean": "canonicalize"}}}
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
        one_line(lambda: load(str(folder)), r"its own code \(auto_map\), which is never run")
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
    one_line(lambda: load(str(folder)), "too large")
