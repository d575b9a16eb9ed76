"""The text a parser reads instead of a caption: same length, blanks and shouting evened out.

Captions come with line feeds, trailing blanks, tags of HTML and all in capitals. The copy has a
character for each of the caption's, so that an offset in one is an offset in the other. What of a
caption is an address or the name of a file, and whether it reads like English, is told here too.
"""

import re
from collections.abc import Iterator

# Longer texts are read in pieces cut at a blank, so that memory stays bounded.
PIECE_CHARS = 4000
# From so many words on, the share of capitalised ones tells whether capitals mean anything.
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
# Without those that are words, as in "on the beach.it is": a blank is easily forgotten.
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
    """A copy of the same length without tags, line feeds and capitals on (nearly) all words.

    A tagger takes a capitalised word for a name; where all are capitalised, that tells nothing.
    """
    text = _TAG.sub(lambda tag: " " * len(tag[0]), text)
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


def not_words(text: str) -> list[tuple[int, int]]:
    """Where a text has web addresses, e-mail, names of files, @names and hashtags.

    Returns:
        (start, end) in code points, in order.
    """
    return [match.span() for match in _NOT_WORDS.finditer(text)]


def is_english(text: str) -> bool:
    """Whether a caption reads like English, by its small words; a few words pass in any case."""
    letters = [char for char in text if char.isalpha()]
    if sum(char > "\u024f" for char in letters) > len(letters) / 2:  # beyond Latin script
        return False
    words = text.lower().split()
    english, foreign = (sum(w in known for w in words) for known in (_ENGLISH, _FOREIGN))
    return english > foreign or (english == foreign == 0 and len(words) < _FEW_WORDS)
