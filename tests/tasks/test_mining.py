"""The steps of mining: what a run names is looked up before anything is computed."""

import pytest

from ovseg.config.presets import load_preset
from ovseg.config.request import resolve
from ovseg.errors import OvsegError
from tasks.mining import check_models, unscreened


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("mining.nouns.parser", "storybook"),
        ("mining.proposals.source", "maskformer"),
        ("mining.pairing.clip", "storybook"),
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


def test_benchmarks_whose_images_cannot_be_looked_for_are_named(tmp_path):
    (tmp_path / "captions.json").touch()
    (tmp_path / "data" / "voc-20").mkdir(parents=True)
    given = {"captions": tmp_path / "captions.json", "images": tmp_path}
    others = ["ade20k-150", "ade20k-847", "context-459", "context-59"]
    assert unscreened(resolve("paper", **given)) == [*others, "voc-20"]
    data = {"data.prepared": str(tmp_path / "data")}
    assert unscreened(resolve("paper", **given, overrides=data)) == others
    one = {**data, "data.scored": ("voc-20",)}
    assert unscreened(resolve("paper", **given, overrides=one)) == []
    assert unscreened(resolve("storybook", **given)) == unscreened(resolve("storybook")) == []
