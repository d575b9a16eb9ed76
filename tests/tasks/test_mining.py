"""The steps of mining: what a run names is looked up before anything is computed."""

import pytest

from ovseg.errors import OvsegError
from ovseg.presets import load_preset
from tasks.mining import check_models


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("nouns.parser", "storybook"),
        ("proposals.source", "maskformer"),
        ("pairing.clip", "storybook"),
        ("arms.trains", "image_encoder, mask_prompts, joint"),
    ],
)
def test_a_name_that_nothing_has_is_refused_with_those_there_are(setting, known):
    config = load_preset("storybook", {setting: "nothing-of-that-name"})
    with pytest.raises(OvsegError, match=known) as error:
        check_models(config)
    assert "nothing-of-that-name" in str(error.value) and "\n" not in str(error.value)


def test_what_a_preset_names_is_found():
    check_models(load_preset("storybook"))
