"""The flow that rebuilds the noun tagger, on a treebank of a few sentences."""

import sys
from pathlib import Path

import pytest

from flows import train_parser as module
from ovseg.mining.nouns.mentions import load_parser

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
    metrics = module.train_parser_flow(treebank, out, seed=1)
    assert metrics["test/noun_propn_f1"] == 1
    assert [token.pos_ for token in load_parser(str(out))("The dog")] == ["DET", "NOUN"]
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "python -m flows.train_parser --treebank treebank --seed 1" in card


def test_a_missing_treebank_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["x", "--treebank", str(tmp_path), "--out", str(tmp_path / "parser")]
    )
    assert module.main() == 2
    assert "0 files named *-train.conllu" in capsys.readouterr().err
    assert not (tmp_path / "parser").exists()
