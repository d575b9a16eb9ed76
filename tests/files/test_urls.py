"""URLs in texts and values: no user, password or token of one is shown, and plain ones stay."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.config.request import resolve
from ovseg.config.run import RunConfig
from ovseg.errors import OvsegError
from ovseg.files.locations import located
from ovseg.files.urls import HIDDEN, holds_secret, redacted, without_secrets

PLAIN = [
    "http://127.0.0.1:5000/#/experiments/1/runs/abc",
    "https://mlflow.example:5000/prefix/",
    "sqlite:////srv/runs/mlflow.db",
    "sqlite:///C:/runs/a@b.db",
    "s3://bucket/folder/photo@2x.png",
    "s3://bucket/00000.tar#name.jpg",
    "http://[::1]:4200/api",
    "memory://captions/x.json",
    "postgresql://host/db?sslmode=require",
    "http://host:5000/?page=3&limit=10",
    "models:/ovseg-storybook@both",
    "me@example.org",
    "12:30 at http://host:5000, call me@example.org",
    "see http://host? or not",
    "a text with no URL",
    "",
]
SECRET = [
    ("http://me:secret@host:5000/x", "http://host:5000/x"),
    ("http://me:se/cr/et@host", "http://host"),
    ("http://me:secret'secret\"secret@host", "http://host"),
    ("http://me:secret@secret@host/x", "http://host/x"),
    ("http://me:secret secret@host:80/x", "http://host:80/x"),
    ("http://me:1/secret@host", "http://host"),
    ("http://me:5000/secret@host", "http://host"),
    ("http://me.name:5000/secret@host", "http://host"),
    ("http://me:sec#ret?secret@host/x", "http://host/x"),
    ("http://me:secret://secret@host/x", "http://host/x"),
    ("http://me:se%40cr%2Fet@host/x", "http://host/x"),
    ("http://secret@host/x", "http://host/x"),
    ("redis://:secret@host/0", "redis://host/0"),
    ("postgresql+psycopg2://me:secret@host/db", "postgresql+psycopg2://host/db"),
    ("mysql://host/db?user=me&password=secret", f"mysql://host/db?user={HIDDEN}&password={HIDDEN}"),
    ("sqlite:///x.db?key=secret", f"sqlite:///x.db?key={HIDDEN}"),
    (
        "https://bucket/x.json?X-Amz-Expires=9&X-Amz-Signature=secret",
        f"https://bucket/x.json?X-Amz-Expires={HIDDEN}&X-Amz-Signature={HIDDEN}",
    ),
    ("https://h/cb#access_token=secret&page=2", f"https://h/cb#access_token={HIDDEN}&page=2"),
    ("https://h/x?secret", f"https://h/x?{HIDDEN}"),
    ("https://h/x;jsessionid=secret", f"https://h/x;jsessionid={HIDDEN}"),
    ("https://h/?page=http%3A%2F%2Fme%3Asecret%40h", f"https://h/?page={HIDDEN}"),
    ("http%3A%2F%2Fme%3Asecret%40host", "http%3A%2F%2Fhost"),
    ("http:\\/\\/me:secret@host", "http:\\/\\/host"),
    ("HTTP://Me:secret@host", "HTTP://host"),
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_holds_no_secret_stays_as_it_is(text):
    assert without_secrets(text) == redacted(text) == text
    assert not holds_secret(text)


@pytest.mark.parametrize(("url", "shown"), SECRET)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert without_secrets(url) == redacted(url) == shown
    assert holds_secret(url)
    sentence = without_secrets(f"no answer from {url} in time")
    assert "secret" not in sentence and sentence.startswith("no answer from ")
    assert sentence.endswith(" in time")


def test_each_url_of_a_text_is_shown_without_its_secrets():
    text = "http://a:secret@one and http://b:secret@two\nhttps://three?token=secret http://four/"
    assert without_secrets(text) == (
        f"http://one and http://two\nhttps://three?token={HIDDEN} http://four/"
    )


def test_a_sentence_on_a_port_is_no_password():
    text = "http://localhost:5000 does not answer me@example.org"
    assert without_secrets(text) == text


def test_values_of_any_depth_stay_json_of_the_same_shape():
    value = {"a": ['http://me:se"cret@h', {"b": "http://me:se cret@h/x"}], "c": 3, "d": None}
    assert redacted(value) == {"a": ["http://h", {"b": "http://h/x"}], "c": 3, "d": None}
    assert json.loads(json.dumps(redacted(value)))["c"] == 3


PASSWORD = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["http", "https", "postgresql+psycopg2", "s3", "redis"]),
    st.from_regex(r"[a-z]{0,8}", fullmatch=True),
    PASSWORD,
    st.sampled_from(["/x", ":5000/x?page=1", ""]),
)
def test_no_password_is_left_of_an_address(scheme, user, password, rest):
    url = f"{scheme}://{user}:X{password}X@host{rest}"
    assert redacted(url) == f"{scheme}://host{rest}"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=120) | st.lists(st.sampled_from([*PLAIN, *dict(SECRET)])).map(" ".join))
def test_texts_are_shown_the_same_again(text):
    shown = without_secrets(text)
    assert without_secrets(shown) == shown
    assert len(shown) <= len(text) + 3 * text.count("?") + 3 * text.count("=")


def test_a_long_text_is_looked_through_in_linear_time():
    encoded, pairs = "a%3A%2F%2F" * 9_000, "http://a?" + "&b" * 50_000
    for text in ("http://" * 20_000, "a:" * 50_000, "a" * 100_000, "a." * 50_000, encoded, pairs):
        without_secrets(text)
        redacted(text)


# --------------------------------------------------------------------------------------
# What a person asks for


@pytest.mark.parametrize(
    "given",
    [
        {"overrides": {"tracking.uri": "http://me:secret@host:5000"}},
        {"overrides": {"tracking.uri": "me:secret@host:5000"}},
        {"overrides": {"tracking.uri": "postgresql://me:sec/ret@host/db"}},
        {"overrides": {"tracking.uri": "https://host?token=secret"}},
        {"overrides": {"mining.pairing.clip": "https://me:secret@host/clip"}},
        {"captions": "https://me:secret@host/c.json", "images": "https://host/i"},
        {"captions": "https://host/c.json", "images": "s3://me:secret@bucket/i"},
        {"captions": "https://host/c.json?X-Amz-Signature=secret", "images": "https://host/i"},
    ],
)
def test_a_secret_in_a_setting_is_refused_on_one_line(given):
    with pytest.raises(OvsegError, match=r"a user, a password or a token.*leave it out") as error:
        resolve("storybook", **given)
    assert "secret" not in str(error.value) and "sec/ret" not in str(error.value)


def test_a_configuration_by_hand_is_held_to_the_same():
    plain = resolve("storybook").model_dump()
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_USERNAME"):
        RunConfig(**{**plain, "tracking": {"uri": "http://me:pw@host"}})
    assert RunConfig(**{**plain, "tracking": {"uri": "http://host:5000"}}).tracking.uri
    with pytest.raises(OvsegError, match="AWS_ACCESS_KEY_ID"):
        located("https://me:pw@host/x")


def test_an_error_holds_no_secret_whatever_was_put_into_it():
    error = OvsegError("http://me:secret@host/x\n\tis gone: \x1b[2J\u202egpj")
    assert str(error) == "http://host/x is gone: \\x1b[2J\\u202egpj"
    assert "secret" not in repr(error) + str(error.args)


def test_the_command_refuses_before_anything_is_written(tmp_path, monkeypatch, capsys):
    from flows import cli

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    words = ["run", "--root", str(tmp_path / "r"), "--tracking", "http://me:sec ret/2@host:5000"]
    monkeypatch.setattr(sys, "argv", ["ovseg", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr()
    assert stop.value.code == 2 and len(told.err.splitlines()) == 1
    assert "MLFLOW_TRACKING_PASSWORD" in told.err and "ret/2" not in told.err + told.out
    assert list(tmp_path.iterdir()) == []
