"""Configurations: what their digests cover, that they survive JSON, that they are frozen."""

import importlib
import inspect
import json
import pkgutil
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import ovseg.config
from ovseg.config.base import Config
from ovseg.config.data import DataConfig
from ovseg.config.mining import (
    NounsSettings,
    PairingConfig,
    PairingSettings,
    ProposalsSettings,
)
from ovseg.config.presets import PRESETS, load_preset
from ovseg.config.reporting import Comparison, SheetConfig
from ovseg.config.run import ExecutionConfig, ModelsConfig
from ovseg.config.scoring import BenchmarkConfig, BenchmarkSettings
from ovseg.config.training import FinetuneConfig, PhaseSettings

COMPARED = Comparison(better="a", worse="b")
NEEDED = {
    "WorldConfig": {"part": "val"},
    "CurationConfig": {"sql": "select 1"},
    "CurveConfig": {"arm": "both", "benchmark": BenchmarkConfig()},
    "MemoryConfig": {"benchmark": BenchmarkConfig()},
    "StudyConfig": {"arms": (("original", "original CLIP"),)},
    "AblationConfig": {"table": "main", "arms": (("original", "original CLIP"),)},
    "Comparison": {"better": "a", "worse": "b"},
    "Claim": {"name": "a", "text": "b", "ways": ((COMPARED,),)},
    "RunConfig": {"preset": "storybook", "expect": "", "arms": {}},
}
CONFIGS = [
    kind(**NEEDED.get(name, {}))
    for module in pkgutil.iter_modules(ovseg.config.__path__, "ovseg.config.")
    for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
    if issubclass(kind, Config) and kind.__module__ == module.name and kind is not Config
]


def is_execution(one: Config, name: str) -> bool:
    extra = type(one).model_fields[name].json_schema_extra
    return isinstance(extra, dict) and extra.get("execution") is True


@pytest.mark.parametrize("one", CONFIGS, ids=lambda one: type(one).__name__)
def test_the_digest_covers_every_field_but_those_of_execution(one):
    assert len(one.digest()) == 16
    for name in type(one).model_fields:
        with warnings.catch_warnings():  # of a value of another type: any other value will do
            warnings.simplefilter("ignore")
            other = one.model_copy(update={name: "something else"})
            assert (other.digest() == one.digest()) == is_execution(one, name), name
            assert (name in other.result_fields()) != is_execution(one, name)
            assert (name in other.execution_fields()) == is_execution(one, name)


def test_execution_fields_of_nested_configurations_stay_out_too():
    here, there = (
        SheetConfig(benchmark=BenchmarkConfig(root=Path(f"/{name}"), batch_size=size))
        for name, size in (("a", 1), ("b", 2))
    )
    assert here.digest() == there.digest() and here.result_fields() == there.result_fields()
    assert "root" not in here.result_fields()["benchmark"]
    assert here.result_fields()["benchmark"]["benchmark"] == "storybook"
    assert here.execution_fields()["benchmark"] == {
        "root": "/a",
        "batch_size": 1,
        "contexts_from": None,
        "pixels": "",
        "device": "auto",
        "max_bad_fraction": 0.05,
    }
    other = SheetConfig(benchmark=BenchmarkConfig(short_side=320))
    assert other.digest() != here.digest()
    assert SheetConfig().result_fields()["benchmark"] is None


@pytest.mark.parametrize("name", PRESETS)
def test_a_whole_run_is_published_without_paths_and_devices(name):
    run = load_preset(name)
    moved = load_preset(
        name,
        {
            "root": "/elsewhere",
            "mining.proposals.device": "cuda",
            "arms.device": "cuda",
            "benchmarks.root": "/elsewhere",
        },
    )
    assert run.digest() == moved.digest() and run.result_fields() == moved.result_fields()
    assert "elsewhere" not in json.dumps(moved.result_fields())
    assert run.digest() != load_preset(name, {"arms.seed": 1}).digest()


@pytest.mark.parametrize("one", [*CONFIGS, *(load_preset(name) for name in PRESETS)])
def test_a_configuration_survives_json(one):
    again = type(one).model_validate_json(one.model_dump_json())
    assert again == one and again.digest() == one.digest()
    assert type(one)(**one.result_fields()).digest() == one.digest()


@given(
    clip=st.text(max_size=20),
    template=st.text(max_size=20),
    ratio=st.floats(1, 10),
    margin=st.none() | st.floats(-2, 2),
    mutual=st.booleans(),
)
def test_any_values_survive_json(clip, template, ratio, margin, mutual):
    one = PairingConfig(
        clip=clip, template=template, expand_ratio=ratio, min_margin=margin, mutual_best=mutual
    )
    again = PairingConfig.model_validate_json(one.model_dump_json())
    assert again == one and again.digest() == one.digest()


def test_configurations_are_frozen_and_know_their_fields():
    with pytest.raises(ValidationError):
        PairingConfig().clip = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="nonsense"):
        PairingConfig(nonsense=1)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        PairingConfig(max_bad_fraction=1.5)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        FinetuneConfig(batch_size=1)


def test_what_is_shared_has_one_home():
    """A stage's own value of what stages share defaults to none: as models, or as execution."""
    shared = {*ModelsConfig.model_fields, *ExecutionConfig.model_fields, "seed"}
    of_stages = [
        (kind, name, kind.model_fields[name].default)
        for kind in (
            *(DataConfig, NounsSettings, ProposalsSettings, PairingSettings),
            *(PhaseSettings, BenchmarkSettings),
        )
        for name in shared
        if name in kind.model_fields
    ]
    assert len(of_stages) > 15
    assert not [(kind.__name__, name) for kind, name, default in of_stages if default is not None]
