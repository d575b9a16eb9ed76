"""The text a parser reads instead of a caption: same length, blanks and shouting evened out.

Captions come with line feeds, trailing blanks and all in capitals. The copy has a character for
each of the caption's, so that an offset in one is an offset in the other.
"""

import re
from collections.abc import Iterator

# Longer texts are read in pieces cut at a blank, so that memory stays bounded.
PIECE_CHARS = 4000
# From so many words on, the share of capitalised ones tells whether capitals mean anything.
MIN_WORDS = 4
RAISED_SHARE = 0.7
_WORD = re.compile(r"[^\W\d_]{2,}")


def pieces_of(text: str) -> Iterator[tuple[int, str]]:
    """What a pipeline reads of a text.

    Yields:
        (offset in code points, piece of at most `PIECE_CHARS` that is not blank); character i of
        the piece stands for character offset + i of the text.
    """
    even = even_out(text)
    start = 0
    while start < len(even):
        end = len(even)
        if end - start > PIECE_CHARS:
            blank = even.rfind(" ", start, start + PIECE_CHARS)
            end = blank + 1 if blank > start else start + PIECE_CHARS
        piece = even[start:end].rstrip()
        if piece.strip():
            yield start, piece
        start = end


def even_out(text: str) -> str:
    """A copy of the same length: blanks are spaces, and capitals on (nearly) all words are gone.

    A tagger takes a capitalised word for a name; where all are capitalised, that tells nothing.
    """
    words = _WORD.findall(text)
    raised = sum(word[0].isupper() for word in words)
    shouting = text.isupper() or (len(words) >= MIN_WORDS and raised > RAISED_SHARE * len(words))
    characters = []
    for char in text:
        if char.isspace():
            char = " "
        elif shouting and len(char.lower()) == 1:
            char = char.lower()
        characters.append(char)
    return "".join(characters)
