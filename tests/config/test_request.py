"""What a request makes of a preset: one's own images and labels, seeds, roots."""

from pathlib import Path

import pytest

from ovseg.config.presets import load_preset
from ovseg.config.request import resolve, resolve_seeds
from ovseg.errors import OvsegError


def test_configure_over_one_s_own_images(tmp_path):
    captions, images = tmp_path / "captions.json", tmp_path / "images"
    captions.write_text("{}")
    images.mkdir()
    made = resolve("storybook", root=tmp_path / "r", captions=captions, images=images)
    assert made.root == tmp_path / "r"
    assert made.data.mining_world is None and made.data.benchmark_world is None
    assert not made.benchmarks
    assert made.images.captions == captions.resolve()
    assert made.images.dataset == made.pairing.dataset == "images"
    roots = [made.images.image_root, made.proposals.image_root, made.pairing.image_root]
    roots += [phase.image_root for arm in made.phases.values() for phase in arm]
    assert set(roots) == {images.resolve()}
    assert resolve("paper", captions=captions, images=images).images.captions_per_image == 1


def test_configure_over_labels_alone(tmp_path):
    labels = tmp_path / "My Labels"
    labels.mkdir()
    own = {"data.labels": str(labels), "mining.sources": ["gt_label"]}
    made = resolve("storybook", overrides=own)
    assert made.data.mining_world is None and not made.benchmarks
    assert made.images.dataset == made.pairing.dataset == made.table.dataset == "my-labels"
    assert (made.images.captions, made.images.captions_format) == (labels, "labelled")
    assert made.images.uncaptioned and made.root == Path("runs/my-labels")
    assert (made.proposals.label_set, made.proposals.label_classes) == ("", ())
    roots = [made.images.image_root, made.proposals.image_root, made.pairing.image_root]
    roots += [phase.image_root for arm in made.phases.values() for phase in arm]
    assert set(roots) == {labels}
    some = resolve("storybook", overrides={**own, "mining.proposals.label_classes": ["dog"]})
    assert some.proposals.label_classes == ("dog",)
    trained = {"data.labels": str(labels), "curation": "gt_labels"}
    assert resolve("paper", overrides=trained).images.uncaptioned
    for wrong in (
        {"mining.sources": ["gt_noun"]},
        {"mining.sources": []},
        {"mining.sources": ["gt_label", "mined"]},
    ):
        with pytest.raises(OvsegError, match=r"add --source gt_label \(to train on"):
            resolve("storybook", overrides={**own, **wrong})
    with pytest.raises(OvsegError, match=r"gone is not a folder"):
        resolve("paper", overrides={**own, "data.labels": str(tmp_path / "gone")})
    with pytest.raises(OvsegError, match=r"read as My Labels, not as coco-stuff-171"):
        resolve("paper", overrides={**own, "mining.proposals.label_set": "coco-stuff-171"})


def test_labels_beside_captions_keep_the_captions_source(tmp_path):
    captions, images = tmp_path / "captions.json", tmp_path / "images"
    captions.write_text("{}")
    images.mkdir()
    (tmp_path / "labels").mkdir()
    own = {"data.labels": str(tmp_path / "labels"), "mining.sources": ["gt_noun"]}
    made = resolve("storybook", captions=captions, images=images, overrides=own)
    assert made.images.captions_format == "auto" and not made.images.uncaptioned
    assert made.proposals.labels == tmp_path / "labels" and made.proposals.label_set == ""
    assert made.proposals.label_classes == (), "the storybook's seen classes are not these"


def test_the_storybook_s_masks_are_those_of_its_seen_classes():
    from ovseg.storybook.categories import split

    for seed in (0, 1, 2):
        preset = load_preset("storybook", {"seed": seed})
        (benchmark,) = preset.benchmarks
        assert preset.proposals.label_classes == benchmark.seen == tuple(sorted(split(seed)[0]))
        for source in ("gt_label", "gt_noun"):
            assert preset.of_source(source).proposals.label_classes == benchmark.seen


def test_configure_says_what_is_missing(tmp_path):
    for given in ({"captions": tmp_path}, {"images": tmp_path}):
        with pytest.raises(OvsegError, match="go together"):
            resolve("storybook", **given)
    with pytest.raises(OvsegError, match=r"gone\.json does not exist"):
        resolve("storybook", captions=tmp_path / "gone.json", images=tmp_path)
    with pytest.raises(OvsegError, match="gone does not exist"):
        resolve("storybook", captions=tmp_path, images=tmp_path / "gone")
    with pytest.raises(OvsegError, match="give --captions"):
        resolve("paper")


def test_the_benchmark_s_root_goes_to_its_own_benchmark(tmp_path):
    preset = load_preset("storybook")
    assert preset.with_benchmark_root("storybook", tmp_path).benchmarks[0].root == tmp_path
    assert preset.with_benchmark_root("other", tmp_path) == preset


def test_seeds_are_runs_with_roots_of_their_own(tmp_path):
    captions, images = tmp_path / "captions.json", tmp_path / "images"
    captions.write_text("{}")
    images.mkdir()
    configs = resolve_seeds("paper", seeds=2, captions=captions, images=images)
    assert [config.root.as_posix() for config in configs] == [
        "runs/paper/seed-0",
        "runs/paper/seed-1",
    ]
    seeds = [{each.seed for arm in config.phases.values() for each in arm} for config in configs]
    assert seeds == [{0}, {1}]
    # the order of training is all that differs
    one, other = (
        config.replaced({"arms.seed": 0, "seed": 0, "root": "x"}).model_dump() for config in configs
    )
    assert one == other
    (only,) = resolve_seeds("storybook", seeds=1, root=tmp_path / "here")
    assert only.root == tmp_path / "here" / "seed-0" and only == resolve(
        "storybook", root=tmp_path / "here" / "seed-0", seed=0
    )


def test_a_seed_is_given_once(tmp_path):
    assert resolve("storybook", seed=2).seed == 2
    assert resolve("storybook", seed=2, overrides={"seed": 1}).seed == 2
    assert resolve("storybook", overrides={"seed": 1}).seed == 1
    for wrong in ({"seeds": 0}, {"seeds": 2, "seed": 1}, {"seeds": 2, "overrides": {"seed": 1}}):
        with pytest.raises(OvsegError, match="--seeds"):
            resolve_seeds("storybook", **wrong)
