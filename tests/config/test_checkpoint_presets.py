"""Presets that score an imported checkpoint: the published constants, and what must be said."""

import pytest

from ovseg.config.overrides import spread
from ovseg.config.prepared import with_benchmarks
from ovseg.config.presets import CHECKPOINT_PRESETS, load_preset
from ovseg.config.request import resolve
from ovseg.config.scoring import BenchmarkSettings
from ovseg.errors import OvsegError


def test_the_published_constants():
    swin, resnet = (load_preset(name).benchmarks for name in CHECKPOINT_PRESETS)
    for setting in (*swin, *resnet):
        assert setting.templates == "vild" and setting.ensemble == "upstream"
        assert setting.mask_prompts and setting.region == "mean" and setting.expand_ratio == 1.0
    for settings, sizes in ((swin, (640, 2560, 0.4)), (resnet, (512, 2048, 0.5))):
        for item in settings:
            assert (item.short_side, item.max_side, item.mask_threshold) == sizes
        assert {item.benchmark: item.ensemble_weight for item in settings} == {
            "ade20k-150": 0.7,
            "ade20k-847": 0.7,
            "context-59": 0.6,
            "context-459": 0.6,
            "voc-20": 0.45,
        }


@pytest.mark.parametrize("name", CHECKPOINT_PRESETS)
def test_they_train_and_mine_nothing(name, tmp_path):
    (tmp_path / "data" / "voc-20").mkdir(parents=True)
    options = spread({"checkpoint": "imported", "data": str(tmp_path / "data")})
    config = resolve(name, overrides=options)
    assert config.arms == {"imported": ()} and config.expect
    (setting,) = config.scored
    assert setting.benchmark == "voc-20" and setting.ensemble_weight == 0.45
    assert setting.root == (tmp_path / "data" / "voc-20").resolve()
    assert setting.clip == setting.maskformer == "imported"


def test_what_is_missing_is_said(tmp_path):
    name = "ovseg-swinb-vitl14"
    with pytest.raises(OvsegError, match="give --checkpoint FOLDER"):
        resolve(name)
    checkpoint = spread({"checkpoint": "imported"})
    with pytest.raises(OvsegError, match=r"give --data FOLDER, which holds some of ade20k-150"):
        resolve(name, overrides=checkpoint)
    with pytest.raises(OvsegError, match=r"has none of the benchmarks of preset ovseg-swinb"):
        resolve(name, overrides={**checkpoint, "data.prepared": str(tmp_path)})
    with pytest.raises(OvsegError, match="mines nothing"):
        resolve(name, overrides=checkpoint, captions=tmp_path, images=tmp_path)
    # without --data each benchmark may have a root of its own
    rooted = {**checkpoint, "benchmarks.root": str(tmp_path)}
    assert {item.root for item in resolve(name, overrides=rooted).benchmarks} == {tmp_path}


def test_prepared_benchmarks_beside_the_drawn_one(tmp_path):
    (tmp_path / "voc-20").mkdir()
    preset = load_preset("storybook")
    more = tuple(BenchmarkSettings(benchmark=name) for name in ("voc-20", "context-59"))
    config = preset.model_copy(update={"benchmarks": (*preset.benchmarks, *more)})
    found = with_benchmarks(config.changed("data", prepared=tmp_path)).benchmarks
    assert [item.benchmark for item in found] == ["storybook", "voc-20"]
    assert [item.root for item in found] == [None, tmp_path.resolve() / "voc-20"]


def test_any_prepared_folder_is_scored_by_name(tmp_path):
    for name in ("voc-20", "camvid"):
        (tmp_path / name).mkdir()
    options = {"checkpoint": "imported", "data": str(tmp_path), "benchmark": ["camvid", "voc-20"]}
    overrides = spread(options) | {"benchmarks.short_side": 320}
    camvid, voc = resolve("ovseg-r101c-vitb16", overrides=overrides).scored
    assert (camvid.benchmark, camvid.root) == ("camvid", tmp_path / "camvid")
    assert (camvid.clip, camvid.short_side, camvid.mask_threshold) == ("imported", 320, 0.5)
    assert (camvid.seen_split, camvid.ensemble_weight) == ("", 0.7)
    assert (voc.ensemble_weight, voc.short_side) == (0.45, 320)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"benchmark": ["camvid"]}, "is a folder in --data"),
        ({"benchmark": ["ade20k-150"], "data": "here"}, "no folder ade20k-150: `ovseg prepare"),
    ],
)
def test_a_named_benchmark_is_there(options, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(OvsegError, match=complaint):
        resolve("ovseg-r101c-vitb16", overrides=spread({"checkpoint": "imported", **options}))


def test_the_storybook_preset_scores_own_folders_without_its_classes(tmp_path):
    (tmp_path / "camvid").mkdir()
    options = spread({"data": str(tmp_path), "benchmark": ["camvid"]})
    config = resolve("storybook", overrides=options)
    (camvid,) = config.benchmarks
    assert camvid.seen == () and camvid.root == tmp_path / "camvid"
    assert config.data.benchmark_world is None, "no scenes are drawn that nobody scores"
    assert config.miniature, "its models stay a miniature's"
    large = {**options, **spread({"checkpoint": "imported"})}
    assert not resolve("ovseg-r101c-vitb16", overrides=large).miniature
