"""The flow that rebuilds the convolutional CLIP, on a few scenes for a few steps."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from flows import train_conv_clip as module
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
    metrics = module.train_conv_clip_flow(out, seed=1, work=work)
    assert {"pooled/all", "pooled/unseen", "crops/all"} <= set(metrics)
    assert all(0 <= value <= 1 for value in metrics.values())
    clip = load_model(str(out))
    assert isinstance(clip, ConvCLIP)
    with torch.no_grad():  # its texts are the shipped CLIP's
        texts = [model.encode_texts(["a moon"]) for model in (clip, load_model("storybook"))]
    torch.testing.assert_close(*texts)
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "python -m flows.train_conv_clip --seed 1 --device cpu" in card
    assert "4 storybook scenes" in card and "3 steps of 8" in card

    (pictures,) = work.glob("*.npy")
    rendered = pictures.stat().st_mtime_ns
    words = ["x", "--out", str(again), "--work", str(work), "--seed", "1"]
    monkeypatch.setattr(sys, "argv", words)
    capsys.readouterr()
    assert module.main() == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: {value:.4f}\n" in printed for name, value in metrics.items())
    assert pictures.stat().st_mtime_ns == rendered, "the pictures are rendered once"
    weights = [(folder / "model.safetensors").read_bytes() for folder in (out, again)]
    assert weights[0] == weights[1]
