"""spaCy pipelines as parsers: loading, refusals, digests, and what ships."""

from pathlib import Path

import pytest
import spacy

from ovseg.errors import OvsegError
from ovseg.mining.nouns.mentions import load_parser, parser_digest
from ovseg.storybook.weights import PARSER


def test_an_unknown_parser_is_one_line_of_advice() -> None:
    with pytest.raises(OvsegError, match="python -m spacy download en_core_web_xx") as raised:
        load_parser("en_core_web_xx")
    assert "\n" not in str(raised.value)
    with pytest.raises(OvsegError, match="neither"):
        parser_digest("no/such/folder")


def test_a_pipeline_without_a_tagger_is_refused(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(OvsegError, match="no parts of speech"):
        load_parser(str(tmp_path / "blank"))


def test_a_damaged_pipeline_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    spacy.blank("en").to_disk(folder)
    (folder / "config.cfg").write_text("[nlp]\nlang = 3\n")
    with pytest.raises(OvsegError, match="cannot be loaded"):
        load_parser(str(folder))


def test_the_digest_follows_the_weights_and_not_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    spacy.blank("en").to_disk(folder)
    before = parser_digest(str(folder))
    (folder / "MODEL_CARD.md").write_text("took 8 minutes")
    assert parser_digest(str(folder)) == before and len(before) == 64
    (folder / "meta.json").write_text("{}")
    assert parser_digest(str(folder)) != before


def test_the_shipped_weights_are_small_and_say_whose_data_they_learnt_from() -> None:
    files = [path for path in PARSER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_000_000
    meta = load_parser("storybook").meta
    assert meta["license"] == "CC BY-SA 4.0"
    assert "UD_English-EWT" in meta["sources"][0]["name"]
    card = (PARSER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "CC BY-SA 4.0" in card and "gold tokens" in card and "flows.pretrain parser" in card
