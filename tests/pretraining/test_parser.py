"""Training the noun tagger: a tiny one from end to end, and the shipped one on the treebank."""

import time
from pathlib import Path

import pytest
import spacy

from ovseg.mining.nouns.mentions import load_parser, parser_digest
from ovseg.pretraining.parser import ParserRecipe, evaluate_parser, train_parser
from ovseg.pretraining.parser_files import write_parser_card
from ovseg.pretraining.treebank import find_part

NOUNS = ["dog", "cat", "house", "tree", "boat", "cow"]
VERBS = ["sees", "likes", "chases", "finds", "wants"]
TINY = ParserRecipe(
    width=16,
    depth=1,
    maxout_pieces=2,
    rows=(200, 50, 100, 50),
    min_tree_frequency=2,
    epochs=5,
    batch_words=60,
    learning_rate=0.02,
    dropout=0.0,
)


def sentence(index: int) -> str:
    subject, thing = NOUNS[index % 6], NOUNS[(index // 6) % 6]
    verb = VERBS[index % 5]
    rows = [
        ("The", "the", "DET"),
        (subject + "s", subject, "NOUN"),
        (verb, verb[:-1], "VERB"),
        ("a", "a", "DET"),
        (thing, thing, "NOUN"),
        ("in", "in", "ADP"),
        ("Oslo", "Oslo", "PROPN"),
        (".", ".", "PUNCT"),
    ]
    return "".join(
        f"{number}\t{form}\t{lemma}\t{upos}" + "\t_" * 6 + "\n"
        for number, (form, lemma, upos) in enumerate(rows, start=1)
    )


@pytest.fixture(scope="module")
def treebank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("treebank")
    for part, block in {"train": range(70), "dev": range(70, 90), "test": range(90, 110)}.items():
        content = "\n".join(sentence(index) for index in block)
        (folder / f"en_toy-ud-{part}.conllu").write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(
    treebank: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float], list[str]]:
    lines: list[str] = []
    out = tmp_path_factory.mktemp("weights") / "parser"
    return out, train_parser(treebank, out, seed=3, recipe=TINY, progress=lines.append), lines


def test_a_tiny_tagger_learns_a_tiny_language(
    trained: tuple[Path, dict[str, float], list[str]],
) -> None:
    out, metrics, lines = trained
    assert metrics["test/noun_propn_f1"] > 0.95
    assert metrics["test/lemma_accuracy"] > 0.9
    assert len(lines) == TINY.epochs and "dev noun_propn_f1" in lines[-1]
    assert metrics["size_bytes"] == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert not list(out.parent.glob("*.tmp-*"))


def test_what_is_saved_is_what_was_measured(
    trained: tuple[Path, dict[str, float], list[str]], treebank: Path
) -> None:
    out, metrics, _ = trained
    scores = evaluate_parser(spacy.load(out), find_part(treebank, "test"))
    assert {f"test/{name}": value for name, value in scores.items()}.items() <= metrics.items()


def test_the_saved_folder_holds_no_training_words(
    trained: tuple[Path, dict[str, float], list[str]],
) -> None:
    strings = (trained[0] / "vocab" / "strings.json").read_text(encoding="utf-8")
    assert "Oslo" not in strings
    assert [token.lemma_ for token in spacy.load(trained[0])("The dogs")] == ["the", "dog"]


def test_equal_seeds_give_equal_files(
    trained: tuple[Path, dict[str, float], list[str]], treebank: Path, tmp_path: Path
) -> None:
    again = tmp_path / "parser"
    again.mkdir()
    (again / "stale.txt").write_text("of an older run")
    assert train_parser(treebank, again, seed=3, recipe=TINY) == trained[1]
    assert parser_digest(str(again)) == parser_digest(str(trained[0]))
    other = tmp_path / "other"
    train_parser(treebank, other, seed=4, recipe=TINY)
    assert parser_digest(str(other)) != parser_digest(str(trained[0]))


def test_precision_and_recall_are_those_of_the_union(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, tag in {"dog": "NOUN", "Oslo": "NOUN", "runs": "NOUN", "cat": "VERB"}.items():
        ruler.add([[{"ORTH": word}]], {"POS": tag, "LEMMA": word})  # type: ignore[attr-defined]
    rows = [("dog", "NOUN"), ("Oslo", "PROPN"), ("runs", "VERB"), ("cat", "NOUN")]
    path = tmp_path / "x-test.conllu"
    path.write_text(
        "".join(f"{i}\t{w}\t{w}\t{t}" + "\t_" * 6 + "\n" for i, (w, t) in enumerate(rows, 1))
    )
    scores = evaluate_parser(nlp, path)
    # dog and Oslo are hits (NOUN for PROPN counts), runs is too much, cat is missing.
    assert scores["noun_propn_precision"] == scores["noun_propn_recall"] == pytest.approx(2 / 3)
    assert scores["noun_f1"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert scores["propn_f1"] == 0
    assert scores["upos_accuracy"] == 0.25
    assert scores["lemma_accuracy"] == 1


def test_the_card_tells_of_this_run(
    trained: tuple[Path, dict[str, float], list[str]], treebank: Path
) -> None:
    out, metrics, _ = trained
    before = parser_digest(str(out))
    card = write_parser_card(out, treebank=treebank, seed=3, seconds=75.2, metrics=metrics)
    text = card.read_text(encoding="utf-8")
    assert "--seed 3" in text and "1 min 15 s" in text and "CC BY-SA 4.0" in text
    assert f"{metrics['test/noun_propn_f1']:.4f}" in text
    assert "`en_toy-ud-train.conllu`" in text
    assert parser_digest(str(out)) == before


def test_the_shipped_tagger_finds_the_nouns_of_the_test_part(reference_data: Path) -> None:
    test = find_part(reference_data / "ud_english_ewt", "test")
    nlp = load_parser("storybook")
    started = time.monotonic()
    scores = evaluate_parser(nlp, test)
    assert scores["noun_propn_f1"] >= 0.95
    assert scores["lemma_accuracy"] >= 0.94
    assert time.monotonic() - started < 60
