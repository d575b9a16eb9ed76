"""Settings of any text, name and value: a configuration, or one line that says why not."""

import json

from hypothesis import strategies as st

from ovseg.config.base import Config
from ovseg.config.overrides import parse_settings, settings
from ovseg.config.presets import load_preset
from ovseg.config.request import resolve
from ovseg.config.run import RunConfig
from ovseg.errors import OvsegError
from ovseg.files.json_files import parse_json
from tests.fuzz.harness import fuzzed, mutated

NAMES = [name for name, _, _ in settings(load_preset("storybook"))]
ODD_NAMES = ["", ".", "arms", "arms.both.epochs", "arms..epochs", "seed.x", "images..limit", "é.x"]
VALUES = [
    *("1", "0", "-1", "1e999", "NaN", "Infinity", "null", "true", "[]", "{}", '""', "[[[[", "{"),
    *("9" * 30, "9" * 5000, "0.5", '"~/a"', "~", "~nobody/x", "a\x00b", "\ud800", "[1,2]", "x"),
    *("[" * 30 + "]" * 30, "[" * 9000, '{"a":' * 70 + "1" + "}" * 70, '{"a":1,"a":2}', "s3://x/y"),
    *(
        "joint",
        "mined",
        "gt_label",
        "storybook",
        "fc-clip",
        "lseg",
        "paper",
        "/nowhere",
        "a" * 9000,
    ),
    '{"a":[]}',
]

name = st.sampled_from(NAMES) | st.sampled_from(ODD_NAMES) | st.text(max_size=12)
value = st.sampled_from(VALUES) | st.text(max_size=20) | st.integers().map(str)
texts = st.lists(st.tuples(name, value).map("=".join) | st.text(max_size=20), max_size=4)


def holds_one_line(error: OvsegError) -> None:
    assert str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 2000


@fuzzed(
    texts,
    seeds=(
        ["a=" + "[" * 100_000],
        ["arms.epochs=NaN"],
        ["=1"],
        ["seed=true"],
        [],
        ["arms.template=\ud800"],
    ),
)
def test_set(case, folder):
    try:
        config = resolve("storybook", overrides=parse_settings(case))
    except OvsegError as error:
        holds_one_line(error)
        raise
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.digest() == config.digest()


deep = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
phase = st.dictionaries(st.sampled_from(["trains", "epochs", "clip", "x"]), deep, max_size=3)
overrides = st.dictionaries(name, deep, max_size=3) | st.fixed_dictionaries(
    {"arms": st.dictionaries(st.text(max_size=6), st.lists(phase, max_size=2) | deep, max_size=2)}
)
presets = st.sampled_from(["storybook", "paper", "gated", "ovseg-swinb-vitl14", "none"])


@fuzzed(st.tuples(presets, overrides))
def test_overrides(case, folder):
    preset, given = case
    try:
        made = load_preset(preset, given)
    except OvsegError as error:
        holds_one_line(error)
        raise
    assert isinstance(made, Config) and made.digest()


VALID = [load_preset(name).model_dump_json().encode() for name in ("storybook", "paper", "gated")]


@fuzzed(mutated(VALID), raises=(OvsegError, ValueError))
def test_configuration(case, folder):
    made = RunConfig(**parse_json(case)) if case[:1] == b"{" else None
    if made is not None:
        json.dumps(made.result_fields(), allow_nan=False)
