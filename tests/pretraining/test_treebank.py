"""Reading CoNLL-U and making sentences look like captions."""

import gzip
import random
from pathlib import Path

import pytest
import spacy

from ovseg.errors import OvsegError
from ovseg.pretraining.treebank import (
    find_part,
    like_captions,
    lower_cased,
    read_conllu,
    to_doc,
    without_final_mark,
)


def line(number: str, form: str, lemma: str, upos: str, misc: str = "_") -> str:
    return "\t".join([number, form, lemma, upos, "_", "_", "0", "_", "_", misc])


CONTENT = "\n".join(
    [
        "# text = Dogs didn't (run) at Ann's.",
        line("1", "Dogs", "dog", "NOUN"),
        line("2-3", "didn't", "_", "_"),
        line("2", "did", "do", "AUX"),
        line("3", "n't", "not", "PART"),
        line("3.1", "ever", "ever", "ADV"),
        line("4", "(", "(", "PUNCT", "SpaceAfter=No"),
        line("5", "run", "run", "VERB", "X=1|SpaceAfter=No"),
        line("6", ")", ")", "PUNCT"),
        line("7", "at", "at", "ADP"),
        line("8-9", "Ann's", "_", "_", "SpaceAfter=No"),
        line("8", "Ann", "Ann", "PROPN"),
        line("9", "'s", "'s", "PART"),
        line("10", ".", ".", "PUNCT"),
        "",
        line("1", "_", "_", "SYM"),
        line("2", "hm", "_", "INTJ"),
    ]
)


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    (tmp_path / "en-ud-dev.conllu").write_text(CONTENT, encoding="utf-8")
    with gzip.open(tmp_path / "en-ud-train.conllu.gz", "wt", encoding="utf-8") as stream:
        stream.write(CONTENT)
    return tmp_path


def test_words_are_read_and_spellings_and_empty_nodes_are_not(treebank: Path) -> None:
    first, second = read_conllu(find_part(treebank, "dev"))
    assert first.words == ("Dogs", "did", "n't", "(", "run", ")", "at", "Ann", "'s", ".")
    assert first.upos[0] == "NOUN" and first.lemmas[7] == "Ann"
    doc = to_doc(first, spacy.blank("en").vocab, annotated=True)
    assert doc.text.strip() == "Dogs didn't (run) at Ann's."
    assert [token.pos_ for token in doc] == list(first.upos)
    assert second.lemmas == ("_", "")


def test_a_zipped_part_reads_alike(treebank: Path) -> None:
    assert read_conllu(find_part(treebank, "train")) == read_conllu(find_part(treebank, "dev"))


def test_a_missing_part_says_which(treebank: Path) -> None:
    with pytest.raises(OvsegError, match="-test"):
        find_part(treebank, "test")


@pytest.mark.parametrize("content", [b"1\tword\n", b"\xff\xfe\n"])
def test_a_file_that_is_no_treebank_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x-dev.conllu"
    path.write_bytes(content)
    with pytest.raises(OvsegError, match=r"x-dev\.conllu"):
        read_conllu(path)


def test_sentences_are_made_to_look_like_captions(treebank: Path) -> None:
    sentence = read_conllu(find_part(treebank, "dev"))[0]
    assert lower_cased(sentence).words[0] == "dogs"
    assert lower_cased(sentence).lemmas[7] == "ann"
    assert without_final_mark(sentence).words == sentence.words[:-1]
    assert without_final_mark(without_final_mark(sentence)) == without_final_mark(sentence)
    always = list(like_captions([sentence], lower=1, unmarked=1, rng=random.Random(0)))
    assert always == [without_final_mark(lower_cased(sentence))]
    assert list(like_captions([sentence], lower=0, unmarked=0, rng=random.Random(0))) == [sentence]
