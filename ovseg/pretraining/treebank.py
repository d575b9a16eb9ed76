"""Reading a Universal Dependencies treebank (CoNLL-U) as sentences of gold tokens.

Only syntactic words are read: a multiword token (`1-2`) spells the words that follow it, and an
empty node (`8.1`) is an unwritten word, so neither is a token here. The sentences become spaCy Docs
on gold tokens, so that a tagger is trained and measured without the tokenizer's errors.
"""

import gzip
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spacy.tokens import Doc
from spacy.vocab import Vocab

from ovseg.errors import OvsegError

CONLLU_COLUMNS = 10


@dataclass(frozen=True)
class Sentence:
    """One sentence of gold tokens; the four tuples have one entry per token."""

    words: tuple[str, ...]
    spaces: tuple[bool, ...]
    upos: tuple[str, ...]
    lemmas: tuple[str, ...]


def read_conllu(path: Path) -> list[Sentence]:
    """Read a `.conllu` or `.conllu.gz` file.

    Raises:
        OvsegError: if the file cannot be read or a line does not have ten columns.
    """
    sentences: list[Sentence] = []
    block: list[list[str]] = []
    try:
        for number, line in enumerate(_lines(path), start=1):
            if not line:
                if block:
                    sentences.append(_sentence(block))
                    block = []
            elif not line.startswith("#"):
                columns = line.split("\t")
                if len(columns) != CONLLU_COLUMNS:
                    raise OvsegError(
                        f"{path}:{number}: {len(columns)} columns, but CoNLL-U has "
                        f"{CONLLU_COLUMNS}; give an unmodified treebank file"
                    )
                block.append(columns)
    except (OSError, UnicodeDecodeError) as error:
        raise OvsegError(f"cannot read the treebank file {path}: {error}") from error
    if block:
        sentences.append(_sentence(block))
    return sentences


def find_part(treebank: Path, part: str) -> Path:
    """Find the file of one part (`train`, `dev` or `test`) of a treebank folder.

    Raises:
        OvsegError: if there is no such file or more than one.
    """
    files = sorted(
        path for pattern in ("conllu", "conllu.gz") for path in treebank.glob(f"*-{part}.{pattern}")
    )
    if len(files) != 1:
        raise OvsegError(
            f"{treebank} holds {len(files)} files named *-{part}.conllu[.gz] instead of one; "
            "give the folder of one Universal Dependencies treebank"
        )
    return files[0]


def to_doc(sentence: Sentence, vocab: Vocab, *, annotated: bool) -> Doc:
    """Make a Doc of the gold tokens, with UPOS and lemmas if `annotated`."""
    if not annotated:
        return Doc(vocab, words=list(sentence.words), spaces=list(sentence.spaces))
    return Doc(
        vocab,
        words=list(sentence.words),
        spaces=list(sentence.spaces),
        pos=list(sentence.upos),
        lemmas=list(sentence.lemmas),
    )


# --- Looking like a caption ---------------------------------------------------------------------


def lower_cased(sentence: Sentence) -> Sentence:
    """Lower-case a sentence, and the lemmas of names too."""
    return replace(
        sentence,
        words=tuple(word.lower() for word in sentence.words),
        lemmas=tuple(lemma.lower() for lemma in sentence.lemmas),
    )


def without_final_mark(sentence: Sentence) -> Sentence:
    """Drop the last token of a sentence if it is punctuation and not the only token."""
    if len(sentence.words) < 2 or sentence.upos[-1] != "PUNCT":
        return sentence
    return Sentence(
        words=sentence.words[:-1],
        spaces=sentence.spaces[:-1],
        upos=sentence.upos[:-1],
        lemmas=sentence.lemmas[:-1],
    )


def like_captions(
    sentences: Sequence[Sentence], *, lower: float, unmarked: float, rng: random.Random
) -> Iterator[Sentence]:
    """Yield each sentence, lower-cased or without final punctuation with these probabilities."""
    for sentence in sentences:
        changed = lower_cased(sentence) if rng.random() < lower else sentence
        yield without_final_mark(changed) if rng.random() < unmarked else changed


# --- Lines and columns --------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[str]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            yield from (line.rstrip("\r\n") for line in stream)
    else:
        with path.open(encoding="utf-8") as stream:
            yield from (line.rstrip("\r\n") for line in stream)


def _sentence(block: list[list[str]]) -> Sentence:
    # The space after a multiword token is marked on its own line, not on that of its last word.
    inside: set[int] = set()
    unspaced: set[int] = set()
    rows: list[list[str]] = []
    for columns in block:
        number = columns[0]
        if "." in number:
            continue
        tight = "SpaceAfter=No" in columns[9].split("|")
        if "-" in number:
            first, last = (int(end) for end in number.split("-"))
            inside.update(range(first, last))
            if tight:
                unspaced.add(last)
        else:
            rows.append(columns)
            if tight:
                unspaced.add(int(number))
    return Sentence(
        words=tuple(row[1] for row in rows),
        spaces=tuple(int(row[0]) not in inside | unspaced for row in rows),
        upos=tuple(row[3] for row in rows),
        # `_` means no lemma, unless the token is an underscore.
        lemmas=tuple("" if row[2] == "_" and row[1] != "_" else row[2] for row in rows),
    )
