"""Tars that claim what they do not hold: nothing large is read for a word in a header."""

import tarfile
import tracemalloc
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest

from ovseg.data.captions.formats import read_captions
from ovseg.files.archives import MAX_HEADER, MAX_TEXT, index, walk


def entry(name: str, content: bytes, size: int | None = None, kind: bytes = b"0") -> bytes:
    """A header and its content, which the header says to have `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(content) if size is None else size
    info.type = kind
    padding = bytes(-len(content) % 512)
    return info.tobuf(tarfile.GNU_FORMAT) + content + padding


END = bytes(1024)
GOOD = entry("a.jpg", b"x") + entry("a.txt", b"a dog")


def read(path: Path, content: bytes) -> tuple[dict[str, list[str]], dict[str, int], int]:
    """The texts by image, what was left out, and how many bytes were allocated at most."""
    path.write_bytes(GOOD + END)
    read_captions(path)  # what is imported on the way is not counted
    path.write_bytes(content)
    tracemalloc.start()
    try:
        found = read_captions(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    texts = {image.file_name: [text for _, text in image.captions] for image in found.images}
    return texts, found.left_out, peak


LYING = {
    "a text of 8 GB": entry("b.txt", b"x", size=8 * 10**9),
    "a text of 10^20 bytes": entry("b.txt", b"x", size=10**20),
    "an image of 10^20 bytes": entry("b.jpg", b"x", size=10**20),
    "a negative size": entry("b.txt", b"x", size=-(10**6)),
    "a negative size that leads back": entry("b.txt", b"x", size=-1024),
    "a link of negative size": entry("b", b"", size=-2048, kind=b"Z"),
    "a long name of 8 GB": entry("././@LongLink", b"x", size=8 * 10**9, kind=b"L"),
    "a long name of negative size": entry("././@LongLink", b"x", size=-512, kind=b"L"),
    "an extended header of 8 GB": entry("x", b"x", size=8 * 10**9, kind=b"x"),
    "an extended header beyond the bound": entry("x", b"9" * (MAX_HEADER + 512), kind=b"x"),
    "an extended header of nonsense": entry("x", b"18 size=nonsense!\n", kind=b"x"),
    "extended headers without end": entry("x", b"6 a=b\n", kind=b"x") * 3000,
    "an old sparse file of 8 EB": entry("b.txt", b"x", kind=b"S", size=1 << 62),
    "a header of letters": b"z" * 512,
}


@pytest.mark.parametrize("kind", LYING)
def test_what_a_header_claims_costs_nothing(tmp_path: Path, kind: str):
    texts, left_out, peak = read(tmp_path / "0.tar", GOOD + LYING[kind] + END)
    assert texts.pop("0.tar#a.jpg") == ["a dog"]
    assert not any(texts.values())
    reasons = {"archive_cut_short", "text_too_long", "sparse_member"}
    assert reasons & set(left_out), left_out
    assert peak < 30 * 2**20


def sparse_by_extended_header(name: str, real: int) -> bytes:
    notes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
    notes["GNU.sparse.realsize"] = str(real)
    info = tarfile.TarInfo(name)
    info.pax_headers = notes
    content = f"1\n{real - 1}\n1\n".encode().ljust(512, b"\0") + b"x".ljust(512, b"\0")
    info.size = 513
    return info.tobuf(tarfile.PAX_FORMAT) + content


def test_sparse_members_are_counted_and_the_others_read(tmp_path: Path):
    sparse = sparse_by_extended_header("b.txt", 2**40)
    content = entry("b.jpg", b"y") + sparse + GOOD + END
    texts, left_out, peak = read(tmp_path / "0.tar", content)
    assert texts == {"0.tar#b.jpg": [], "0.tar#a.jpg": ["a dog"]}
    assert left_out == {"no_text": 1, "sample_without_caption": 1, "sparse_member": 1}
    assert peak < 30 * 2**20
    assert set(index(tmp_path / "0.tar")) == {"a.jpg", "a.txt", "b.jpg"}


def test_the_longest_text_and_a_longer_one(tmp_path: Path):
    tar = tmp_path / "0.tar"
    tar.write_bytes(entry("a.txt", b"x" * MAX_TEXT) + entry("b.txt", b"x" * (MAX_TEXT + 1)) + END)
    left_out: Counter[str] = Counter()
    found = list(walk(tar, read=lambda name: True, left_out=left_out))
    assert [(member.name, len(member.content or b"")) for member in found] == [("a.txt", MAX_TEXT)]
    assert left_out == {"text_too_long": 1}


def test_long_names_are_read(tmp_path: Path):
    """Both ways of spelling a name that a header has no room for."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "folder/" * 40 + "\u00fc.jpg"
        stream = BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, BytesIO(b"x"))
        (tmp_path / f"{form}.tar").write_bytes(stream.getvalue())
        assert list(index(tmp_path / f"{form}.tar")) == [name]
