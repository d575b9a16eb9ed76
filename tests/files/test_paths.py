"""Paths as a person writes them, in options and in settings alike."""

import subprocess
import sys
from pathlib import Path

import pytest

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import PairingConfig, ProposalsConfig
from ovseg.config.overrides import parse_settings
from ovseg.config.presets import load_preset
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.access import local, model_name
from ovseg.files.locations import located

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_leading_tilde_is_a_home_folder_everywhere(home):
    assert local("~/a") == home / "a" and local(Path("~/a")) == home / "a"
    assert local("a/~/b") == Path("a/~/b") and local("./~") == Path.cwd() / "~"
    assert located("~/captions.json") == home / "captions.json"
    assert model_name("~/clip") == str(home / "clip")
    assert model_name("ViT-B-16/~/w.pt") == f"ViT-B-16/{home}/w.pt"
    assert model_name("ViT-B-16/openai") == "ViT-B-16/openai"
    assert BenchmarkConfig(root="~/data", clip="~/clip").root == home / "data"
    assert ImagesConfig(captions="~/c.json").captions == home / "c.json"
    assert ProposalsConfig(labels="~/l", maskformer="~/m").maskformer == str(home / "m")
    assert PairingConfig(clip="~/clip").digest() == PairingConfig(clip=f"{home}/clip").digest()
    given = parse_settings(["root=~/runs", "data.prepared=~/data", "curation=~/mine.sql"])
    config = load_preset("storybook", given)
    assert (config.root, config.data.prepared) == (home / "runs", home / "data")
    assert config.curation == str(home / "mine.sql")


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "is not a path"), ("a\0b", "is not a path"), ("~nobody-of-this-name/x", "unknown user")],
)
def test_what_cannot_be_a_path_is_refused(text, why):
    with pytest.raises(OvsegError, match=why):
        local(text)
    with pytest.raises(OvsegError, match=why):
        BenchmarkConfig(root=text) if text else local(text)


def test_every_path_option_expands_it(home):
    """`--out=~/x` reaches a command as it stands: a shell expands only what begins a word."""
    import inspect
    from typing import get_args

    from flows.cli import app

    seen = 0
    for command in app.registered_commands:
        for option in inspect.signature(command.callback, eval_str=True).parameters.values():
            kind, *rest = get_args(option.annotation) or (None,)
            if kind is Path or Path in get_args(kind):
                assert rest[0].parser is local, f"{command.callback.__name__} {option.name}"
                seen += 1
    assert seen > 20


NO_TEXT = "\udcff"  # the byte 255 of a command line, or half of a surrogate pair in JSON


@pytest.mark.parametrize(
    "settings",
    [
        {"arms.template": NO_TEXT},
        {"mining.pairing.clip": f"ARCH/{NO_TEXT}"},
        {"root": Path(NO_TEXT)},
        {"arms": {NO_TEXT: []}},
        {"benchmarks.seen": ["sky", NO_TEXT]},
    ],
)
def test_what_is_no_text_is_refused(settings):
    with pytest.raises(OvsegError, match="is not valid UTF-8") as error:
        load_preset("storybook", settings)
    str(error.value).encode()
    for reading in (local, located, model_name):
        with pytest.raises(OvsegError, match="is not valid UTF-8"):
            reading(NO_TEXT)


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "flows.cli", "segment", b"\xff.png"],
        ["-m", "flows.pretrain", "clip", "--out", b"\xff"],
    ],
)
def test_a_word_that_is_no_text_is_one_line(words, tmp_path):
    done = subprocess.run([sys.executable, *words], capture_output=True, cwd=ROOT)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2 and "is not valid UTF-8" in line
