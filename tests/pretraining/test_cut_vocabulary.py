"""The cut BPE vocabulary: sizes and ids, byte-identical files, equal ids for common words."""

from pathlib import Path

import open_clip
import pytest

from ovseg.pretraining.clip import cut_bpe

FULL = Path(open_clip.tokenizer.default_bpe())


def test_the_cut_vocabulary_has_its_special_tokens_last(tmp_path: Path):
    size = cut_bpe(FULL, tmp_path / "a.txt.gz", merges=500)
    assert size == 512 + 500 + 2
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / "a.txt.gz"), context_length=16)
    assert tokenizer.vocab_size == size
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (size - 2, size - 1)
    tokens = tokenizer(["the sea"])[0].tolist()
    assert tokens[0] == size - 2 and max(tokens) == size - 1


def test_words_keep_their_ids_and_rare_words_are_spelled_out(tmp_path: Path):
    cut_bpe(FULL, tmp_path / "a.txt.gz", merges=4000)
    cut = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / "a.txt.gz"))
    full = open_clip.SimpleTokenizer()
    assert cut.encode("a photo of the house") == full.encode("a photo of the house")
    assert len(cut.encode("windmill")) > 1
    assert cut.decode(cut.encode("a windmill, Zürich")).strip() == "a windmill , zürich"


def test_the_file_is_the_same_every_time(tmp_path: Path):
    cut_bpe(FULL, tmp_path / "a.txt.gz", merges=500)
    cut_bpe(FULL, tmp_path / "b.txt.gz", merges=500)
    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()


def test_too_few_merges_are_refused(tmp_path: Path):
    cut_bpe(FULL, tmp_path / "a.txt.gz", merges=50)
    with pytest.raises(ValueError, match="fewer than 60 merges"):
        cut_bpe(tmp_path / "a.txt.gz", tmp_path / "b.txt.gz", merges=60)
