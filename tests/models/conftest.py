"""The vocabulary of the small CLIPs."""

from pathlib import Path

import open_clip
import pytest

from ovseg.pretraining.clip import cut_bpe


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 100 merges."""
    path = tmp_path_factory.mktemp("bpe") / "bpe_vocab.txt.gz"
    assert cut_bpe(Path(open_clip.tokenizer.default_bpe()), path, merges=100) == 614
    return path
