"""The text a parser reads instead of a caption: same length, whitespace and capitals normalized.

Captions come with line feeds, trailing blanks, HTML tags and all in capitals. The copy has one
character for each of the caption's, so an offset in one is an offset in the other. This module also
finds URLs and file names in a caption, and decides whether it reads like English.
"""

import re
from collections.abc import Iterator

# Longer texts are read in pieces cut at a blank, to bound memory.
PIECE_CHARS = 4000
# With at least this many words, the share of capitalized ones shows whether capitals mean anything.
MIN_WORDS = 4
RAISED_SHARE = 0.7
_WORD = re.compile(r"[^\W\d_]{2,}")
_TAG = re.compile(
    r"</?(?:a|b|big|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|small|span|strong|sub|sup|table|td"
    r"|tr|u|ul|usr)\b[^<>]{0,500}>",
    re.IGNORECASE,
)
_FILE_ENDINGS = (
    "jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|psd|pdf|docx?|xlsx?|pptx?|txt|csv|json|xml|html?"
    "|php|aspx?|jsp|mp[34]|mov|avi|mkv|webm|wav"
)
# Excludes domains that are words, as in "on the beach.it is": a blank is easily forgotten.
_DOMAINS = "com|net|org|edu|gov|info|biz|io|co|uk|de|fr|es|nl|pl|se|ru|cn|jp|kr|br|au|ca|eu"
_NOT_WORDS = re.compile(
    rf"""(?<![\w.@#&/-])(?:
        [a-z][a-z0-9+.-]{{1,15}}://\S+                          # an address with its scheme
      | www\d?\.\S+                                           # or without
      | [\w.+-]{{1,64}}@[\w-]{{1,64}}(?:\.[\w-]{{1,64}})+        # e-mail
      | @\w[\w.]*                                             # somebody's name
      | \#\w*[^\W\d_]\w*                                     # a hashtag
      | (?:[a-z]:\\)?[\w~-]+(?:[./\\][\w~-]+)*\.(?:{_FILE_ENDINGS})(?!\w)  # a file
      | (?:dsc[nf]?|img|dcim|pict|image|photo|screenshot)[_-]?\d{{3,}}(?!\w)   # from a camera
      | (?:[a-z0-9][a-z0-9-]{{0,62}}\.)+(?:{_DOMAINS})(?!\w)(?:[/?:]\S*)?     # a host
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_ENGLISH = frozenset(
    (
        *("a", "an", "the", "of", "with", "and", "at", "by", "from", "to", "are", "is", "his"),
        *("her", "their", "near", "next", "while", "for", "this", "that"),
    )
)
_FOREIGN = frozenset(
    (
        *("de", "la", "el", "los", "las", "un", "una", "en", "con", "y", "und", "der", "die"),
        *("das", "ein", "eine", "einem", "einer", "mit", "auf", "im", "le", "les", "des", "du"),
        *("et", "avec", "dans", "sur", "une", "os", "um", "uma", "do", "da", "no", "na", "di"),
        *("il", "lo", "gli", "nel", "het", "een", "van", "op", "met"),
    )
)
_FEW_WORDS = 4


def pieces_of(text: str) -> Iterator[tuple[int, str]]:
    """Split a text into the pieces that a pipeline reads.

    Yields:
        (offset in code points, non-blank piece of at most `PIECE_CHARS`); character i of the piece
        corresponds to character offset + i of the text.
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
    """Return a copy of the same length without tags, line feeds or capitals on (nearly) all words.

    A tagger takes a capitalized word for a name; if all are capitalized, capitals mean nothing.
    """
    text = _TAG.sub(lambda tag: " " * len(tag[0]), text)
    words = _WORD.findall(text)
    raised = sum(word[0].isupper() for word in words)
    shouting = text.isupper() or (len(words) >= MIN_WORDS and raised > RAISED_SHARE * len(words))
    if not shouting and text.isprintable():
        return text  # its only whitespace is blanks
    characters = []
    for char in text:
        if char.isspace():
            char = " "
        elif shouting and len(char.lower()) == 1:
            char = char.lower()
        characters.append(char)
    return "".join(characters)


def not_words(text: str) -> list[tuple[int, int]]:
    """Find the web addresses, e-mail addresses, file names, @names and hashtags in a text.

    Returns:
        (start, end) in code points, in order.
    """
    return [match.span() for match in _NOT_WORDS.finditer(text)]


def is_english(text: str) -> bool:
    """Whether a caption reads like English, judged by its small words; very short ones pass."""
    letters = [char for char in text if char.isalpha()]
    if sum(char > "\u024f" for char in letters) > len(letters) / 2:  # beyond Latin script
        return False
    words = text.lower().split()
    english, foreign = (sum(w in known for w in words) for known in (_ENGLISH, _FOREIGN))
    return english > foreign or (english == foreign == 0 and len(words) < _FEW_WORDS)
