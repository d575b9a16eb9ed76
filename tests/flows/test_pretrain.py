"""The flow that rebuilds what ships: a CLIP in a few steps, the tagger on a few sentences."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from flows import pretrain as module
from ovseg.mining.nouns.mentions import load_parser
from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import load_model
from ovseg.pretraining import conv_clip as training

SMALL = {"scenes": 4, "steps": 3, "tiles": 2, "mosaics": 2, "warmup": 1, "eval_scenes": 2}


def test_flow_and_command_leave_the_same_weights_and_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # the recipe that made the shipped weights takes half an hour: this is it, but smaller
    small = partial(training.ConvRecipe, tower="test_convnext", **SMALL)
    monkeypatch.setattr(training, "ConvRecipe", small)
    out, work, again = (tmp_path / name for name in ("conv", "work", "again"))
    metrics = module.pretrain("conv-clip", out, 1, {"work": work, "device": "cpu"})
    assert {"pooled/all", "pooled/unseen", "crops/all"} <= set(metrics)
    assert all(0 <= value <= 1 for value in metrics.values())
    clip = load_model(str(out))
    assert isinstance(clip, ConvCLIP)
    with torch.no_grad():  # its texts are the shipped CLIP's
        texts = [model.encode_texts(["a moon"]) for model in (clip, load_model("storybook"))]
    torch.testing.assert_close(*texts)
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "python -m flows.pretrain conv-clip --seed 1 --device cpu" in card
    assert "4 storybook scenes" in card and "3 steps of 8" in card

    (pictures,) = work.glob("*.npy")
    rendered = pictures.stat().st_mtime_ns
    words = ["x", "conv-clip", "--out", str(again), "--work", str(work), "--seed", "1"]
    monkeypatch.setattr(sys, "argv", words)
    capsys.readouterr()
    assert module.main() == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: {value:.4f}\n" in printed for name, value in metrics.items())
    assert pictures.stat().st_mtime_ns == rendered, "the pictures are rendered once"
    weights = [(folder / "model.safetensors").read_bytes() for folder in (out, again)]
    assert weights[0] == weights[1]


ROWS = [("The", "DET"), ("dog", "NOUN"), ("sees", "VERB"), ("Oslo", "PROPN"), (".", "PUNCT")]


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    folder = tmp_path / "treebank"
    folder.mkdir()
    sentence = "".join(
        f"{number}\t{word}\t{word}\t{tag}" + "\t_" * 6 + "\n"
        for number, (word, tag) in enumerate(ROWS, start=1)
    )
    for part in ("train", "dev", "test"):
        (folder / f"en_toy-ud-{part}.conllu").write_text("\n".join([sentence] * 12))
    return folder


def test_the_flow_leaves_weights_and_a_card(treebank: Path, tmp_path: Path) -> None:
    out = tmp_path / "parser"
    metrics = module.pretrain("parser", out, 1, {"treebank": treebank})
    assert metrics["test/noun_propn_f1"] == 1
    assert [token.pos_ for token in load_parser(str(out))("The dog")] == ["DET", "NOUN"]
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "python -m flows.pretrain parser --treebank treebank --seed 1" in card


def test_a_missing_treebank_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["x", "parser", "--treebank", str(tmp_path), "--out", str(tmp_path / "parser")]
    )
    assert module.main() == 2
    assert "0 files named *-train.conllu" in capsys.readouterr().err
    assert not (tmp_path / "parser").exists()
