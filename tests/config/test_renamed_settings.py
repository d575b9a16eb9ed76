"""What settings were called before: refused with their new name, translated where stored."""

import pytest

from ovseg.config.overrides import check_known
from ovseg.config.presets import load_preset
from ovseg.config.renamed import RENAMED, renamed, translated
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError


@pytest.mark.parametrize("now", sorted(set(RENAMED.values())))
def test_each_new_name_is_one(now):
    check_known(RunConfig, now, {})


@pytest.mark.parametrize("before", RENAMED)
def test_a_name_of_before_is_refused_with_the_new_one(before):
    with pytest.raises(OvsegError) as error:
        load_preset("storybook", {before: "x"})
    assert str(error.value) == f"setting {before} is now called {RENAMED[before]}"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("pairing.min_margin", "mining.pairing.min_margin"),
        ("images.limit", "data.limit"),
        ("mining_world.scenes", "data.mining_world.scenes"),
        ("arms.both.picture_size", "arms.both.image_size"),
        ("data", "data.prepared"),
    ],
)
def test_so_is_a_setting_of_a_section_that_moved(before, now):
    assert renamed(before) == now
    with pytest.raises(OvsegError, match=f"is now called {now}"):
        load_preset("storybook", {before: "x"})


def test_names_that_stayed_are_none():
    for name in ("arms.epochs", "benchmarks.clip", "data.limit", "curation", "seed"):
        assert renamed(name) is None
    with pytest.raises(OvsegError, match=r"no setting named .pairing\.nonsense"):
        load_preset("storybook", {"pairing.nonsense": 1})
    whole = {"data": {"dataset": "other"}}
    assert load_preset("paper", whole).data.dataset == "other"


def test_stored_settings_are_read_under_their_new_names():
    stored = {"clip": "storybook", "picture_size": 64, "retrieval_neighbours": 3}
    read = BenchmarkConfig(**translated("benchmarks", stored))
    assert (read.image_size, read.retrieval_neighbors) == (64, 3)
