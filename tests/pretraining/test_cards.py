"""Model cards are written from a run, whole."""

from pathlib import Path

from ovseg.pretraining.cards import write_card


def test_a_card_answers_the_questions(tmp_path: Path) -> None:
    path = tmp_path / "weights" / "MODEL_CARD.md"
    write_card(
        path.parent,
        title="A thing",
        purpose="It does.",
        command="thing --seed 1",
        seed=1,
        seconds=3671,
        metrics={"epoch": 7.0, "val/miou": 0.51239, "val/loss": 2.0, "test/miou": 0.5},
        data="Drawn by ovseg.",
        licence="Apache-2.0",
        limits="A miniature.",
        metrics_note="On gold.",
        packages=("numpy", "no-such-package"),
    )
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# A thing\n\nIt does.\n")
    assert "```\npython -m flows.pretrain thing --seed 1\n```" in text
    assert "- duration: 61 min 11 s" in text and "CPU cores" in text
    assert "numpy 2" in text and "no-such-package (not installed)" in text
    assert "- epoch: 7\n" in text
    assert "| | val | test |\n|---|---:|---:|\n| miou | 0.5124 | 0.5000 |\n| loss | 2 |  |" in text
    for heading in ("How to rebuild", "Metrics", "Data", "Licence", "Limits"):
        assert f"## {heading}\n" in text
    assert [item.name for item in path.parent.iterdir()] == ["MODEL_CARD.md"]


def test_a_card_without_a_table_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "MODEL_CARD.md"
    write_card(
        tmp_path,
        title="B",
        purpose="p",
        command="c",
        seed=0,
        seconds=4,
        metrics={"accuracy": 0.25},
        data="d",
        licence="l",
        limits="x",
    )
    text = path.read_text(encoding="utf-8")
    assert "- accuracy: 0.2500" in text and "|" not in text and "- duration: 4 s" in text
