"""The vocabulary of the small CLIPs, and loading without a network or a question."""

import builtins
from pathlib import Path

import pytest
from tiny import cut_vocabulary

from ovseg.models.maskformer import load as maskformer


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 100 merges."""
    return cut_vocabulary(tmp_path_factory.mktemp("bpe") / "bpe_vocab.txt.gz")


@pytest.fixture
def offline_and_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched, nobody is asked whether code may run, nothing loaded is kept."""

    def asked(*_: object) -> str:
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    maskformer._load.cache_clear()
