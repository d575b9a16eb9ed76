"""A request that was resolved already is not resolved again; another one is."""

from ovseg.config.request import resolve
from ovseg.config.resolved import handing, resolved, resolved_seeds


def test_what_was_resolved_is_found_by_its_request():
    config = resolve("storybook", seed=1)
    with handing({"preset": "storybook", "seed": 1, "overrides": {}, "mines": True}, [config]):
        assert resolved("storybook", seed=1, overrides=None) is config
        assert resolved("storybook").seed == 0, "no seed is not seed 1"
        assert resolved("storybook", seed=1, overrides={"arms.epochs": 1}) is not config
        assert resolved("storybook", seed=1, mines=False) is not config
    assert resolved("storybook", seed=1) is not config


def test_one_seed_is_not_a_run_without_seeds():
    config = resolve("storybook")
    with handing({"preset": "storybook"}, [config]):
        assert resolved_seeds("storybook", seeds=1)[0].root.name == "seed-0"
