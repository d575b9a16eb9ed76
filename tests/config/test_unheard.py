"""Options that a command does not use are named, those that it uses are not."""

import pytest

from flows.options import requested
from ovseg.config.checks import unheard_by
from ovseg.config.presets import load_preset


def given(**options):
    return requested(**options).given


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"captions": "c.json", "images": "images"}, ["--captions and --images"]),
        ({"parser": "en_core_web_sm", "clip": "storybook"}, ["--parser"]),
        ({"limit": 3, "labels": None, "source": ["mined"]}, ["--limit", "--source"]),
        ({"settings": ["arms.both.epochs=3"]}, ["--set arms.both.epochs"]),
        ({"settings": ["mining.pairing.region=zero"]}, ["--set mining.pairing.region"]),
        ({"settings": ["execution.decode_workers=2"]}, ["--set execution.decode_workers"]),
        ({"settings": ["execution.max_bad_fraction=0.1", "data.benchmark_world.scenes=3"]}, []),
        ({"device": "cpu", "maskformer": "storybook", "system": "zsseg"}, []),
    ],
)
def test_models_as_they_are_need_nothing_of_mining(options, named):
    assert unheard_by("benchmark", given(**options), mines=False) == named


def test_mining_trains_and_scores_nothing():
    options = given(
        clip="storybook",
        system="zsseg",
        settings=["arms.epochs=2", "benchmarks.root=data", "tracking.curve_images=3"],
    )
    assert unheard_by("mine", options) == [
        "--system",
        "--set arms.epochs",
        "--set tracking.curve_images",
    ]


def test_training_traces_curves_and_registers_what_benchmarks_say():
    options = given(settings=["tracking.curve_images=3", "benchmarks.templates=single"])
    assert unheard_by("finetune", options) == []


def test_a_model_given_by_hand_goes_before_a_system_s_however_it_is_written():
    for models in ({"models.clip": "mine"}, {"models": {"clip": "mine"}}):
        overrides = {"benchmarks.system": "fc-clip", **models}
        assert load_preset("storybook", overrides).scored[0].clip == "mine"
