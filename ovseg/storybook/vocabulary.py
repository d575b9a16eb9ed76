"""Cutting CLIP's BPE vocabulary down to its most frequent merges.

The merges of CLIP's vocabulary stand in order of frequency, so its first 4,000 spell common
English words as one token and rare words as a few, and a small text tower's token table shrinks
elevenfold.
"""

import gzip
from pathlib import Path

BYTE_TOKENS = 512  # the 256 bytes, within a word and at its end
SPECIAL_TOKENS = 2  # start and end of text, the last two ids


def cut_bpe(src: Path, dst: Path, *, merges: int = 4000) -> int:
    """Keep the header and the first merges of a BPE file.

    Args:
        src: gzip text, a header line and one merge a line, as open_clip ships.
        dst: file to write, byte-identical for equal input.
        merges: how many merges to keep.

    Returns:
        The size of the vocabulary open_clip's `SimpleTokenizer` makes of `dst`: byte tokens,
        merges, then start and end of text as its last two ids.

    Raises:
        ValueError: the file has fewer merges than asked for.
    """
    with gzip.open(src, "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")[: merges + 1]
    if len(lines) < merges + 1 or not all(len(line.split()) == 2 for line in lines[1:]):
        raise ValueError(f"{src} has no {merges} merges to keep")
    # no newline at the end: the tokenizer would take an empty line for one more merge
    data = gzip.compress("\n".join(lines).encode("utf-8"), compresslevel=9, mtime=0)
    dst.parent.mkdir(parents=True, exist_ok=True)
    dst.write_bytes(data)
    return BYTE_TOKENS + merges + SPECIAL_TOKENS
