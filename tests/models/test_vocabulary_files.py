"""The packed vocabulary beside a CLIP: bounded, whatever it unpacks to."""

import gzip
import tracemalloc
from pathlib import Path

import open_clip
import pytest

from ovseg.errors import OvsegError
from ovseg.models.clip.open_clip_model import MAX_VOCABULARY, tokenizer_of


def test_a_vocabulary_that_unpacks_to_far_more_is_refused(tmp_path: Path):
    path = tmp_path / "bpe_vocab.txt.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(4 * MAX_VOCABULARY // 2**20):
            stream.write(bytes(2**20))
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(OvsegError, match=r"bpe_vocab.*it unpacks to more than 16 MiB"):
            tokenizer_of({}, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**21


DAMAGED = {"empty": b"", "not packed": b"not packed", "cut": gzip.compress(b"a b\n" * 99)[:-9]}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_vocabulary_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "bpe_vocab.txt.gz"
    path.write_bytes(content)
    with pytest.raises(OvsegError) as error:
        tokenizer_of({}, path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_the_vocabulary_of_clip_is_read():
    assert len(tokenizer_of({}, Path(open_clip.tokenizer.default_bpe()))(["a dog"])) == 1
