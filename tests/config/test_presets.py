"""Presets: that they load, how their settings are named and replaced, what is refused and how."""

import json

import pytest

from ovseg.config.base import Config
from ovseg.config.overrides import parse_setting, settings
from ovseg.config.presets import ARMS, CHECKPOINT_PRESETS, PRESETS, load_preset
from ovseg.config.request import resolve
from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.errors import OvsegError
from ovseg.evaluation.splits import HEADLINE, PUBLISHED, benchmark_splits


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads(name):
    preset = load_preset(name)
    assert preset.preset == name and preset.expect
    assert set(preset.arms) == set(ARMS) and preset.arms["original"] == ()
    assert preset.texts.clip == preset.pairing.clip
    assert preset.texts.template == preset.pairing.template
    assert preset.table.dataset == preset.images.dataset
    # arms that begin alike share their first phase, so it is trained once
    assert preset.arms["both"][0] == preset.arms["finetuned"][0]
    assert preset.arms["both"][1] == preset.arms["prompts"][0]


def test_the_paper_gates_nothing_and_gated_does():
    paper, gated = load_preset("paper"), load_preset("gated")
    gates = ("min_similarity", "min_margin", "min_proposal_score", "min_area_fraction")
    assert all(getattr(paper.pairing, gate) is None for gate in gates)
    assert paper.proposals.min_score is paper.proposals.nms_iou is None
    assert not paper.pairing.mutual_best and gated.pairing.mutual_best
    assert gated.proposals.min_score and gated.pairing.min_margin
    assert paper.arms == gated.arms


@pytest.mark.parametrize("name", ["paper", "gated"])
def test_prepared_benchmarks_are_scored_where_data_is_given(name, tmp_path):
    captions, images, data = tmp_path / "captions.json", tmp_path / "images", tmp_path / "data"
    captions.write_text("{}")
    images.mkdir()
    given = {"captions": captions, "images": images}
    assert {item.benchmark: item.ensemble_weight for item in load_preset(name).benchmarks} == {
        "ade20k-150": 0.7,
        "ade20k-847": 0.7,
        "context-59": 0.6,
        "context-459": 0.6,
        "voc-20": 0.45,
    }
    assert resolve(name, **given).benchmarks == ()
    for prepared in ("voc-20", "context-459", "elsewhere"):
        (data / prepared).mkdir(parents=True)
    config = resolve(name, **given, overrides={"data.prepared": str(data)})
    assert [item.benchmark for item in config.benchmarks] == ["context-459", "voc-20"]
    assert [item.root for item in config.benchmarks] == [
        (data / item.benchmark).resolve() for item in config.benchmarks
    ]
    assert {(item.clip, item.maskformer) for item in config.scored} == {
        (config.pairing.clip, config.proposals.maskformer)
    }
    with pytest.raises(OvsegError, match="`ovseg prepare NAME --root SOURCE --out "):
        resolve(name, **given, overrides={"data.prepared": str(images)})


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        ({}, True),  # arms are trained on pairs
        ({"benchmarks.system": "zsseg"}, False),
        ({"benchmarks.system": "zsseg", "benchmarks.retrieval_weight": 0.3}, True),
        ({"benchmarks.system": "zsseg", "benchmarks.prompting": "mined"}, True),
    ],
)
def test_models_as_they_are_are_scored_without_captions(settings, asks, tmp_path):
    (tmp_path / "voc-20").mkdir()
    overrides = {"data.prepared": str(tmp_path), **settings}
    if asks:
        with pytest.raises(OvsegError, match="give --captions"):
            resolve("paper", mines=False, overrides=overrides)
    else:
        config = resolve("paper", mines=False, overrides=overrides)
        assert [item.benchmark for item in config.benchmarks] == ["voc-20"]
    with pytest.raises(OvsegError, match="give --captions"):
        resolve("paper", overrides=overrides)


@pytest.mark.parametrize("name", ["paper", "gated", *CHECKPOINT_PRESETS])
def test_every_benchmark_of_real_weights_knows_its_seen_classes(name):
    for item in load_preset(name).benchmarks:
        classes = [each.name for each in read_vocabulary(item.benchmark)]
        splits = benchmark_splits(item, classes)
        assert 0 < len(splits[HEADLINE]) <= len(classes)
        # COCO has all of VOC: nothing is unseen there; of the others much is
        assert (len(splits[HEADLINE]) == len(classes)) == (item.benchmark == "voc-20")
        assert (PUBLISHED in splits) == (item.benchmark == "ade20k-150")


def test_another_maskformer_saw_other_classes():
    changed = load_preset(
        "paper", {"benchmarks.trained_on": [], "benchmarks.seen": ["wall"], "benchmarks.limit": 1}
    )
    assert all(item.seen == ("wall",) and not item.trained_on for item in changed.benchmarks)


def test_overrides_by_dotted_names():
    changed = load_preset(
        "storybook",
        {
            "mining.pairing.clip": "ViT-B-16/openai",
            "mining.pairing.min_margin": 0.01,
            "arms.epochs": 2,
            "arms.prompts.learning_rate": 0.5,
            "benchmarks.ensemble_weight": 0.0,
            "data.mining_world.scenes": 7,
            "root": "elsewhere",
        },
    )
    assert changed.pairing.clip == changed.texts.clip == "ViT-B-16/openai"
    assert changed.pairing.min_margin == 0.01
    phases = [phase for arm in changed.arms.values() for phase in arm]
    assert len(phases) == 4 and {phase.epochs for phase in phases} == {2}
    assert changed.arms["prompts"][0].learning_rate == 0.5
    assert changed.arms["both"][1].learning_rate != 0.5
    assert [item.ensemble_weight for item in changed.benchmarks] == [0.0]
    assert changed.data.mining_world.scenes == 7
    assert changed.root.name == "elsewhere"
    assert load_preset("storybook").pairing.clip == "storybook"  # a preset is made anew


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"nonsense": 1}, ["'nonsense'", "ovseg settings"]),
        ({"mining.pairing.nonsense": 1}, ["'mining.pairing.nonsense'"]),
        ({"arms.nonsense": 1}, ["'arms.nonsense'"]),
        ({"benchmarks.nonsense": 1}, ["'benchmarks.nonsense'"]),
        ({"mining.pairing.clip.name": "x"}, ["'mining.pairing.clip.name'"]),
        ({"data.panoptic.folder": "x"}, ["'data.panoptic.folder'"]),
        ({"data.limit.n": 1}, ["'data.limit.n'"]),
        ({"": 1}, ["''"]),
        ({"arms.epochs": "many"}, ["arms.finetuned.0.epochs", "integer", "'many'"]),
        ({"arms.batch_size": 1}, ["batch_size", "greater than or equal to 2"]),
        ({"mining.pairing": 3}, ["mining.pairing", "3"]),
        ({"mining.pairing": {"nonsense": 1}}, ["mining.pairing.nonsense"]),
        (
            {"mining.pairing.region": "blue"},
            ["mining.pairing.region", "'image' or 'attenuated_image'"],
        ),
        ({"benchmarks.ensemble_weight": 1.5}, ["benchmarks.0.ensemble_weight"]),
        ({"expect": ["x" * 5000]}, ["expect"]),
    ],
)
def test_what_is_refused_is_said_on_one_line(overrides, words):
    with pytest.raises(OvsegError) as error:
        load_preset("storybook", overrides)
    message = str(error.value)
    assert "\n" not in message and len(message) < 250
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"benchmarks.system": "lseg", "benchmarks.relations": 0.2},
            "benchmarks.segmentor=pixels proposes no masks, but benchmarks.relations needs them:"
            " use benchmarks.segmentor=proposals",
        ),
        (
            {"benchmarks.system": "maskformer", "benchmarks.retrieval_weight": 0.3},
            "benchmarks.retrieval_weight weights regions' votes against CLIP's, but"
            " benchmarks.ensemble=maskformer_only does not use CLIP: change one of them",
        ),
        (
            {"arms.relation_smoothing": 0.1, "arms.loss": "batch"},
            "setting arms.finetuned.0: relation_smoothing needs the loss over nouns: set loss to"
            " distinct",
        ),
        (
            {"data.images": 3},
            "setting data.images: not a path or URL",
        ),
        (
            {"benchmarks.relations": 2},
            "setting benchmarks.0.relations: Input should be less than or equal to 1 (got 2)",
        ),
    ],
)
def test_a_rule_is_said_without_the_configuration_it_was_broken_in(overrides, message):
    with pytest.raises(OvsegError) as error:
        load_preset("storybook", overrides)
    assert str(error.value) == message


def test_a_stage_a_preset_leaves_out_has_no_settings():
    with pytest.raises(OvsegError, match=r"mining_world\.scenes"):
        load_preset("paper", {"data.mining_world.scenes": 3})


def test_unknown_presets_are_refused_with_the_known_ones():
    with pytest.raises(OvsegError, match="unknown preset 'papr': choose one of storybook, paper"):
        load_preset("papr")


def test_what_stages_share_is_said_once():
    shared = {
        "data.dataset": "other",
        "models.clip": "ViT-B-16/openai",
        "models.maskformer": "m",
        "models.device": "cpu",
        "models.precision": "bf16",
        "execution.max_bad_fraction": 0.5,
        "execution.decode_workers": 3,
    }
    run = load_preset("storybook", shared)
    phases = [phase for phases in run.phases.values() for phase in phases]
    stages = [run.images, run.proposals, run.pairing, *phases, *run.scored, run.texts, run.table]
    for name in ("dataset", "clip", "maskformer", "device", "precision", "decode_workers"):
        values = {getattr(stage, name) for stage in stages if hasattr(stage, name)}
        assert values == {value for key, value in shared.items() if key.endswith(f".{name}")}, name
    for stage in (run.images, run.proposals, run.pairing, *phases, *run.scored):
        assert stage.max_bad_fraction == 0.5


def test_auto_is_the_precision_of_the_device_and_part_of_the_digest(monkeypatch):
    digests = set()
    for has_gpu, device, expected in (
        (True, "auto", "bf16"),
        (False, "auto", "fp32"),
        (True, "cpu", "fp32"),
        (False, "cuda:1", "bf16"),
        (False, "mps", "fp32"),
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        for preset in ("paper", "gated"):
            run = load_preset(preset, {"models.device": device})
            assert run.models.precision == "auto"
            assert run.pairing.precision == run.proposals.precision == expected
        own = load_preset("paper", {"mining.pairing.device": device, "models.device": "cpu"})
        assert own.proposals.precision == "fp32" and "auto" not in own.pairing.precision
        digests.add((expected, run.pairing.digest(), run.proposals.digest()))
        pinned = load_preset("paper", {"models.precision": "fp32", "models.device": device})
        assert pinned.pairing.precision == pinned.proposals.precision == "fp32"
    assert len(digests) == 2, "a digest for each precision, whatever the device"
    assert load_preset("storybook").pairing.precision == "fp32"


def test_a_stage_s_own_setting_goes_before_what_is_shared():
    run = load_preset(
        "storybook",
        {"models.clip": "a", "mining.pairing.clip": "b", "arms.device": "cuda", "seed": 2},
    )
    assert (run.pairing.clip, run.texts.clip, run.scored[0].clip) == ("b", "b", "a")
    assert {phase.device for phases in run.phases.values() for phase in phases} == {"cuda"}
    assert run.proposals.device == "auto" and run.proposals.maskformer == "storybook-2"
    assert {phase.seed for phases in run.phases.values() for phase in phases} == {2}


def test_what_a_system_stands_for_gives_way_to_a_model_given_by_hand():
    system = {"benchmarks.system": "fc-clip"}
    assert load_preset("storybook", system).scored[0].clip == "storybook-conv"
    by_hand = load_preset("storybook", {**system, "models.clip": "mine"})
    assert by_hand.scored[0].clip == "mine"


def field_names(config: Config, prefix: str = "") -> set[str]:
    """Dotted names of every field, through first members of tuples and dicts."""
    names: set[str] = set()
    for name in type(config).model_fields:
        value = getattr(config, name)
        while isinstance(value, tuple | dict) and value:
            members = list(value.values() if isinstance(value, dict) else value)
            full = [m for m in members if m != ()]
            value = full[0]
        if isinstance(value, Config):
            names |= field_names(value, f"{prefix}{name}.")
        else:
            names.add(f"{prefix}{name}")
    return names


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_is_a_setting_and_every_setting_can_be_set(name):
    preset = load_preset(name)
    listed = {setting: json.loads(value) for setting, value, _ in settings(preset)}
    assert set(listed) == field_names(preset)
    for setting, value in listed.items():
        again = load_preset(name, {setting: value})
        if not setting.startswith(("arms.", "benchmarks.")):  # shown by the first of several
            assert again == preset, setting


def test_settings_are_read_as_json_else_as_text():
    assert parse_setting("mining.pairing.min_margin=0.01") == ("mining.pairing.min_margin", 0.01)
    assert parse_setting("data.limit=null") == ("data.limit", None)
    assert parse_setting("mining.pairing.mutual_best=true") == ("mining.pairing.mutual_best", True)
    assert parse_setting("mining.pairing.clip=ViT-B-16/openai") == (
        "mining.pairing.clip",
        "ViT-B-16/openai",
    )
    assert parse_setting("mining.pairing.template=a = {}") == ("mining.pairing.template", "a = {}")
    assert parse_setting("mining.pairing.clip=") == ("mining.pairing.clip", "")
    with pytest.raises(OvsegError, match="write name=value"):
        parse_setting("mining.pairing.clip")
