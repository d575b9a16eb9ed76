"""Systems by name: what a name stands for, and that settings by hand go before it."""

import pytest

from ovseg.config.presets import load_preset
from ovseg.config.scoring import BenchmarkConfig
from ovseg.config.systems import SYSTEMS, System, system_settings
from ovseg.errors import OvsegError


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("preset", ["storybook", "paper"])
def test_every_system_is_settings_of_every_preset(name, preset):
    config = load_preset(preset, {"benchmarks.system": name})
    assert {setting.system for setting in config.benchmarks} == {name}
    for path, value in system_settings(name, miniature=preset == "storybook").items():
        if path == "arms":
            assert set(config.arms) == set(value)
        elif path.startswith("benchmarks."):
            field = path.removeprefix("benchmarks.")
            assert {getattr(each, field) for each in config.benchmarks} == {value}


def test_no_two_systems_are_the_same():
    base = BenchmarkConfig()
    seen = [
        (system.settings, system.miniature) for name, system in SYSTEMS.items() if name != "ovseg"
    ]
    assert len({str(each) for each in seen}) == len(seen)
    for settings, miniature in seen:
        changed = {**settings, **miniature}
        fields = {path.removeprefix("benchmarks."): value for path, value in changed.items()}
        assert any(getattr(base, name, None) != value for name, value in fields.items())


def test_what_is_set_by_hand_goes_first():
    config = load_preset(
        "storybook",
        {"benchmarks.system": "zsseg", "benchmarks.seen_weight": 0.5, "arms": {"x": ()}},
    )
    (setting,) = config.benchmarks
    assert (setting.seen_weight, setting.ensemble_weight) == (0.5, 0.8)
    assert set(config.arms) == {"x"}


def test_a_miniature_has_settings_of_its_own(monkeypatch):
    toy = System(
        title="a", source="b", settings={"benchmarks.max_side": 7}, miniature={"curation": "paper"}
    )
    monkeypatch.setitem(SYSTEMS, "toy", toy)
    assert system_settings("toy", miniature=False) == {"benchmarks.max_side": 7}
    assert load_preset("storybook", {"benchmarks.system": "toy"}).curation == "paper"


def test_an_unknown_system_is_refused_with_those_there_are():
    with pytest.raises(OvsegError, match=r"benchmarks\.system: unknown name 'x'.*ovseg, zsseg"):
        load_preset("storybook", {"benchmarks.system": "x"})
