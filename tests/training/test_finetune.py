"""The fine-tuning stage end to end on a random CLIP: phases, resuming, bad input, divergence."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from ovseg import schema
from ovseg.config import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.clip import load_clip
from ovseg.models.learned_prompts import ContextVectors
from ovseg.models.mask_prompts import PROMPT_KEY
from ovseg.stages import run_stage, stage_folder
from ovseg.training.finetune import FINETUNE, LOG_FILE, starting_clip
from ovseg.training.groups import METHODS, freeze_except, parameter_groups
from ovseg.training.snapshots import find_snapshots, restore_snapshot, snapshot_steps
from ovseg.training.trainer import Trainer, epoch_order, steps_per_epoch

# Of 20 steps of mask prompt tuning on 64 synthetic pairs, the same on one thread and on two: other
# losses mean that something else is trained.
GOLDEN_LOSSES = [
    *(3.461619, 3.142905, 2.815444, 2.756019, 2.793233, 2.716279, 2.65494),
    *(2.627298, 2.633734, 2.564654, 2.63924, 2.570318, 2.743979, 2.500969),
    *(2.596113, 2.543478, 2.552597, 2.532983, 2.612797, 2.672396),
]


@pytest.fixture
def finetune(tiny_clip: Path, tmp_path: Path):
    """Runs the stage on a training set with a small configuration and overrides."""

    def run(data, *, root: str = "runs", checkpoint=None, progress=lambda n: None, **settings):
        inputs = {"curated": data.curated, "table": data.table}
        if checkpoint is not None:
            inputs["checkpoint"] = checkpoint
        return run_stage(
            FINETUNE,
            config(tiny_clip, data, **settings),
            inputs,
            tmp_path / root,
            progress=progress,
        )

    return run


def config(tiny_clip: Path, data, **settings) -> FinetuneConfig:
    values = {
        "clip": str(tiny_clip),
        "image_root": data.image_root,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "device": "cpu",
        **settings,
    }
    return FinetuneConfig(**values)


def log_of(manifest) -> dict[str, list]:
    return pq.read_table(manifest.payload() / LOG_FILE).to_pydict()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in load_clip(str(folder)).checkpoint_state().items()}


@pytest.mark.parametrize(
    ("trains", "loss", "train_logit_scale"),
    [
        ("image_encoder", "batch", True),
        ("image_encoder", "distinct", False),
        ("mask_prompts", "distinct", True),
        ("mask_prompts", "batch", False),
        ("joint", "batch", True),
        ("pixel_prompts", "batch", True),
        ("mask_and_pixel_prompts", "distinct", False),
        ("joint_pixel_prompts", "batch", True),
        ("joint_mask_and_pixel_prompts", "batch", False),
        ("visual_prompts", "batch", True),
    ],
)
def test_a_phase_changes_what_it_trains_and_nothing_else(
    training_set, finetune, tiny_clip, trains, loss, train_logit_scale
):
    data = training_set(32)
    tuned = finetune(data, trains=trains, loss=loss, train_logit_scale=train_logit_scale)
    before, after = tensors_of(tiny_clip), tensors_of(tuned.payload())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    expected = set()
    if trains == "image_encoder" or trains.startswith("joint"):
        expected |= {name for name in before if name.startswith("visual.")}
    if train_logit_scale:
        expected.add("logit_scale")
    assert changed == expected
    added = set(after) - set(before)
    pixels = {f"pixel_prompts.{name}" for name in ("image", "strength", "fixed_background")}
    assert added == {
        *({PROMPT_KEY} if "mask" in trains or trains == "joint" else ()),
        *(pixels if "pixel" in trains else ()),
        *({"visual_prompts"} if "visual" in trains else ()),
    }
    if PROMPT_KEY in added:
        assert after[PROMPT_KEY].shape == (3, 16, 32)
    if "pixel" in trains:
        assert after["pixel_prompts.image"].abs().max() > 1e-4
    if "visual" in trains:
        assert after["visual_prompts"].shape == (3, 50, 32)  # all blocks there are, not six
    assert tuned.stats["pairs"] == tuned.stats["n"] == 64
    assert tuned.stats["bad"] == 0
    assert tuned.stats["nouns"] == 4
    assert tuned.stats["steps"] == tuned.rows == 8


@pytest.mark.parametrize("trains", ["text_prompts", "class_text_prompts"])
def test_text_prompts_learn_with_all_of_clip_frozen(training_set, finetune, tiny_clip, trains):
    data = training_set(32)
    settings = {"loss": "distinct", "train_logit_scale": False, "template": "a photo of a {}"}
    tuned = finetune(data, trains=trains, epochs=10, learning_rate=0.05, **settings)
    before, after = tensors_of(tiny_clip), tensors_of(tuned.payload())
    assert all(torch.equal(before[name], after[name]) for name in before)
    vectors = load_clip(str(tuned.payload())).text_prompts
    losses = log_of(tuned)["loss"]
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    if trains == "text_prompts":
        assert vectors.nouns == () and tuned.stats["trained_parameters"] == vectors.shared.numel()
        again = finetune(
            data, root="again", trains=trains, epochs=10, learning_rate=0.05, **settings
        )
        assert again.content_digest == tuned.content_digest
    else:
        assert vectors.nouns == ("fence", "leaf", "moon", "sea")
        assert not torch.equal(vectors.specific[0], vectors.specific[1])
        assert torch.equal(vectors.shared, _begun(tiny_clip))


def _begun(tiny_clip):
    return ContextVectors(load_clip(str(tiny_clip)), "a photo of a {}").shared


def test_the_log_has_a_row_a_step_and_the_schedule(training_set, finetune):
    tuned = finetune(training_set(32), epochs=3, initial_logit_scale=20.0)
    table = pq.read_table(tuned.payload() / LOG_FILE)
    assert table.schema.equals(schema.TRAINING_LOG)
    log = table.to_pydict()
    assert log["step"] == list(range(12))
    assert log["epoch"] == [0] * 4 + [1] * 4 + [2] * 4
    assert log["learning_rate"][:3] == pytest.approx([5e-4, 1e-3, 1e-3])
    assert log["logit_scale"][0] == pytest.approx(20, rel=1e-5)
    assert [log["loss"][0], log["loss"][-1]] == [
        tuned.stats["first_loss"],
        tuned.stats["last_loss"],
    ]


def test_training_learns(training_set, finetune):
    tuned = finetune(
        training_set(32), epochs=30, loss="distinct", learning_rate=3e-3, weight_decay=0.0
    )
    losses = log_of(tuned)["loss"]
    assert sum(losses[-4:]) < 0.3 * sum(losses[:4])


def test_prompts_follow_fine_tuning_in_the_papers_order(training_set, finetune):
    data = training_set(16)
    first = finetune(data)
    assert set(first.weights) == {"clip"}
    both = finetune(data, trains="mask_prompts", learning_rate=2e-2, checkpoint=first)
    assert both.weights == {}
    assert both.parents["checkpoint"] == first.content_digest
    start, end = tensors_of(first.payload()), tensors_of(both.payload())
    assert all(torch.equal(start[k], end[k]) for k in start if k != "logit_scale")
    assert end[PROMPT_KEY].std() > 0.03  # moved away from N(0, 0.02)


def test_prompts_are_drawn_by_the_seed_and_kept_if_they_fit(
    training_set, finetune, tiny_clip, tmp_path
):
    data = training_set(16)

    def start(name: Path, **settings) -> torch.Tensor:
        model = starting_clip(str(name), config(tiny_clip, data, trains="mask_prompts", **settings))
        assert model.mask_prompts is not None
        return model.mask_prompts.detach()

    drawn = start(tiny_clip)
    assert drawn.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(drawn, start(tiny_clip))
    assert not torch.equal(drawn, start(tiny_clip, seed=1))
    assert start(tiny_clip, prompt_depth=1).shape[0] == 1
    tuned = finetune(data, trains="mask_prompts").payload()
    assert torch.equal(start(tuned), tensors_of(tuned)[PROMPT_KEY])
    assert torch.equal(start(tuned, prompt_depth=2), start(tiny_clip, prompt_depth=2))
    with pytest.raises(OvsegError, match="prompt_depth 4"):
        start(tiny_clip, prompt_depth=4)


def test_prompts_cannot_be_trained_where_there_are_none(tiny_clip):
    model = load_clip(str(tiny_clip))
    with pytest.raises(OvsegError, match="no 'mask_prompts' to train for 'mask_prompts'"):
        freeze_except(model, "mask_prompts", train_logit_scale=True)


def test_an_unknown_method_is_refused_with_the_known_ones(tiny_clip):
    with pytest.raises(OvsegError, match=r"arms\.trains: .*'nothing'.*image_encoder, mask_prompts"):
        freeze_except(load_clip(str(tiny_clip)), "nothing", train_logit_scale=True)


# --------------------------------------------------------------------------------------
# The same again


class Killed(Exception):
    """What a kill looks like from the inside."""


@pytest.mark.parametrize("augmentation", ["exact", "batched"])
@pytest.mark.parametrize(
    "trains", ["joint", "mask_prompts", "joint_mask_and_pixel_prompts", "visual_prompts"]
)
def test_a_killed_training_resumes_to_the_same_end(
    training_set, finetune, tiny_clip, tmp_path, trains, augmentation
):
    data = training_set(32)
    settings = {
        "trains": trains,
        "epochs": 3,
        "checkpoint_every": 3,
        "augmentation": augmentation,
        "region": "image" if "pixel" in trains else "mean",
        "pixel_background": 0.5,
        "learn_background": True,
        "prompt_learning_rate": 1e-2,
    }
    whole = finetune(data, root="whole", **settings)
    assert whole.rows == 12

    seen = []

    def kill(advance: int) -> None:
        seen.append(advance)
        if sum(seen) == 8:
            raise Killed

    with pytest.raises(Killed):
        finetune(data, root="killed", progress=kill, **settings)
    folder, plan = stage_folder(
        FINETUNE,
        config(tiny_clip, data, **settings),
        {"curated": data.curated, "table": data.table},
        tmp_path / "killed",
    )
    assert sum(plan.counts) == 12
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert left == ["state", "state/latest.safetensors"]
    with safe_open(folder / "state/latest.safetensors", framework="pt") as state:
        assert '"step": 6' in state.metadata()["state"]

    seen = []
    resumed = finetune(data, root="killed", progress=seen.append, **settings)
    assert seen == [6, 1, 1, 1, 1, 1, 1]
    assert log_of(resumed) == log_of(whole)
    assert resumed.content_digest == whole.content_digest  # the files, to the byte
    assert not (resumed.folder / "state").exists()


@pytest.mark.parametrize("trains", ["image_encoder", "mask_prompts"])
def test_snapshots_are_kept_through_a_kill_to_the_byte(
    training_set, finetune, tiny_clip, tmp_path, trains
):
    data = training_set(32)
    settings = {"trains": trains, "epochs": 3, "checkpoint_every": 3, "snapshots": 5}
    whole = finetune(data, root="whole", **settings)
    steps = [3, 5, 8, 10, 12]
    assert list(find_snapshots(whole.payload())) == steps

    seen = []

    def kill(advance: int) -> None:
        seen.append(advance)
        if sum(seen) == 8:
            raise Killed

    for name, lost in (("kept", None), ("lost", "step-000005.safetensors")):
        seen = []
        with pytest.raises(Killed):
            finetune(data, root=name, progress=kill, **settings)
        kept = {path.name: path for path in (tmp_path / name).rglob("step-*.safetensors")}
        assert sorted(kept) == [f"step-{step:06d}.safetensors" for step in steps[:3]]
        if lost is not None:
            kept[lost].unlink()
        times = {path: path.stat().st_mtime_ns for path in kept.values() if path.exists()}
        untouched = []

        def watch(advance: int, times=times, untouched=untouched) -> None:
            if not untouched:  # while the first advance is told, nothing is trained yet
                untouched.append(advance)
                untouched.extend(path.stat().st_mtime_ns == at for path, at in times.items())

        resumed = finetune(data, root=name, progress=watch, **settings)
        # what the lost snapshot was made of is gone: from the beginning, not without it
        assert untouched == [6, True, True, True] if lost is None else untouched[0] == 1
        assert resumed.content_digest == whole.content_digest
        assert not (resumed.folder / "state").exists()


def test_snapshots_hold_what_is_trained_and_end_at_the_checkpoint(training_set, finetune):
    data = training_set(16)
    tuned = finetune(data, trains="mask_prompts", snapshots=2, learning_rate=2e-2)
    first, last = find_snapshots(tuned.payload()).values()
    with safe_open(last, framework="pt") as file:
        assert set(file.keys()) == {"mask_prompts", "clip.logit_scale"}
    model = load_clip(str(tuned.payload()))
    end = {name: tensor.clone() for name, tensor in model.checkpoint_state().items()}
    restore_snapshot(model, first)
    assert not torch.equal(model.checkpoint_state()[PROMPT_KEY], end[PROMPT_KEY])
    restore_snapshot(model, last)
    assert all(torch.equal(tensor, end[name]) for name, tensor in model.checkpoint_state().items())
    # they are read beside the training, not part of what it computes
    plain = finetune(data, trains="mask_prompts", learning_rate=2e-2)
    assert find_snapshots(plain.payload()) == {}
    assert log_of(plain) == log_of(tuned)
    with pytest.raises(OvsegError, match="no snapshot of this model"):
        restore_snapshot(starting_clip(plain.config["clip"], FinetuneConfig(device="cpu")), last)
    first.write_bytes(b"torn")
    with pytest.raises(OvsegError, match="cannot read the snapshot"):
        restore_snapshot(model, first)


def test_snapshots_are_spread_evenly_and_end_with_the_training():
    assert snapshot_steps(12, 0) == []
    assert snapshot_steps(12, 1) == [12]
    assert snapshot_steps(12, 5) == [3, 5, 8, 10, 12]
    assert snapshot_steps(3, 5) == [1, 2, 3]


def test_a_damaged_or_foreign_state_is_not_resumed(training_set, finetune, tmp_path, tiny_clip):
    data = training_set(8)
    settings = {"checkpoint_every": 1, "epochs": 4}
    expected = finetune(data, root="whole", **settings)
    inputs = {"curated": data.curated, "table": data.table}
    folder, _ = stage_folder(
        FINETUNE, config(tiny_clip, data, **settings), inputs, tmp_path / "runs"
    )
    state = folder / "state/latest.safetensors"

    def kill(advance: int) -> None:
        raise Killed

    for damage in (b"not safetensors", None):
        with pytest.raises(Killed):
            finetune(data, progress=kill, **settings)
        assert state.is_file()
        content = state.read_bytes()
        state.write_bytes(damage or content.replace(b"identity", b"idontity"))
        seen: list[int] = []
        again = finetune(data, progress=seen.append, **settings)
        assert seen == [1, 1, 1, 1]
        assert again.content_digest == expected.content_digest
        (again.folder / "manifest.json").unlink()
        (again.folder / "shard-00000.json").unlink()


def test_how_it_is_run_does_not_change_the_result(training_set, finetune):
    data = training_set(16)
    expected = finetune(data, root="cached", trains="joint")
    settings = {"cache_regions": False, "decode_workers": 2, "checkpoint_every": 0}
    streamed = finetune(data, root="streamed", trains="joint", **settings)
    assert streamed.digest == expected.digest
    assert streamed.content_digest == expected.content_digest
    again = finetune(data, root="cached", trains="joint", progress=lambda n: pytest.fail("redone"))
    assert again == expected
    assert finetune(data, seed=1, trains="joint").content_digest != expected.content_digest


@pytest.mark.parametrize("picture_size", [0, 48])
def test_mask_tokens_are_trained_on_whole_pictures(training_set, finetune, tiny_clip, picture_size):
    settings = {"embedder": "mask_tokens", "region": "image", "picture_size": picture_size}
    checkpoint = finetune(training_set(), epochs=6, learning_rate=2e-3, **settings)
    losses = log_of(checkpoint)["loss"]
    assert sum(losses[-2:]) < sum(losses[:2]) - 0.2
    before, after = tensors_of(tiny_clip), tensors_of(checkpoint.payload())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "visual.conv1.weight" in changed
    assert all(name.startswith("visual.") or name == "logit_scale" for name in changed)


def test_mask_tokens_want_the_picture_and_whole_patches(tiny_clip):
    wanted = {"embedder": "mask_tokens", "region": "image"}
    for settings in ({**wanted, "region": "mean"}, {**wanted, "picture_size": 20}):
        with pytest.raises(OvsegError, match="multiple of 8"):
            starting_clip(str(tiny_clip), FinetuneConfig(device="cpu", **settings))
    with pytest.raises(OvsegError, match="leave it out"):
        starting_clip(str(tiny_clip), FinetuneConfig(device="cpu", picture_size=48))


@pytest.mark.parametrize("trains", sorted(METHODS))
def test_prompts_that_mask_tokens_leave_aside_are_not_trained_with_them(tiny_clip, trains):
    config = FinetuneConfig(
        device="cpu", embedder="mask_tokens", region="image", trains=trains, prompt_depth=1
    )
    if trains in ("image_encoder", "text_prompts", "class_text_prompts"):
        model = starting_clip(str(tiny_clip), config, ["boat"])
        assert freeze_except(model, trains, train_logit_scale=False)
        return
    with pytest.raises(OvsegError, match="would learn nothing"):
        starting_clip(str(tiny_clip), config, ["boat"])


def test_mask_prompt_losses_are_the_recorded_ones(training_set, finetune):
    tuned = finetune(
        training_set(32), trains="mask_prompts", epochs=5, learning_rate=2e-2, loss="batch"
    )
    assert log_of(tuned)["loss"] == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


def test_bfloat16_stays_near_float32(training_set, finetune):
    data = training_set(16)
    full, half = (
        log_of(finetune(data, precision=precision))["loss"] for precision in ("fp32", "bf16")
    )
    assert half != full
    assert half == pytest.approx(full, rel=0.05)


# --------------------------------------------------------------------------------------
# Few pairs, bad pairs, divergence


def test_epochs_show_full_batches_of_a_permutation():
    assert [steps_per_epoch(n, 16) for n in (1, 15, 16, 31, 32)] == [1, 1, 1, 1, 2]
    usable = torch.arange(0, 100, 3)
    first, second = (epoch_order(usable, seed=0, epoch=epoch) for epoch in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == usable.tolist()
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("loss", ["batch", "distinct"])
def test_one_pair_is_trained_on_as_well(training_set, finetune, loss):
    tuned = finetune(training_set(1, pairs=1), loss=loss, trains="joint")
    assert tuned.stats["pairs"] == 1
    assert log_of(tuned)["loss"] == pytest.approx([0, 0], abs=1e-6)  # nothing to be told from


def test_an_unreadable_image_is_left_out_and_counted(training_set, finetune):
    data = training_set(32)
    (data.image_root / "0007.png").write_bytes(b"")
    for cached in (True, False):
        tuned = finetune(data, cache_regions=cached, root=f"runs-{cached}")
        assert tuned.stats["n"] == 64
        assert tuned.stats["bad"] == 2
        assert tuned.stats["pairs"] == 62
        assert tuned.stats["bad_reasons"] == {"zero_bytes": 2}
        assert tuned.stats["first_bad"] == "0007.png: zero_bytes"
        assert tuned.rows == 2 * (62 // 16)


def test_too_many_unreadable_images_stop_before_training(training_set, finetune):
    data = training_set(8)
    for index in range(4):
        (data.image_root / f"{index:04d}.png").unlink()
    with pytest.raises(OvsegError, match=r"8 of 16 pairs are bad.*missing_file"):
        finetune(data, progress=lambda n: pytest.fail("trained"))
    assert finetune(data, max_bad_fraction=0.5).stats["bad"] == 8
    for index in range(4, 8):
        Image.new("RGB", (48, 40)).save(data.image_root / f"{index:04d}.png")
    with pytest.raises(OvsegError, match="16 of 16 pairs are bad"):
        finetune(data, max_bad_fraction=1.0, root="none")


def test_divergence_stops_in_one_line_and_keeps_the_last_good_state(
    training_set, finetune, tiny_clip, tmp_path
):
    data = training_set(16)
    settings = {"learning_rate": 1e30, "warmup_steps": 0, "checkpoint_every": 1, "epochs": 8}
    with pytest.raises(OvsegError, match="training diverged at step") as caught:
        finetune(data, **settings)
    assert "lower learning_rate" in str(caught.value) and "\n" not in str(caught.value)
    states = list((tmp_path / "runs").rglob("latest.safetensors"))
    assert len(states) == 1
    with safe_open(states[0], framework="pt") as file:
        assert all(file.get_tensor(key).isfinite().all() for key in file.keys())  # noqa: SIM118
    assert not list((tmp_path / "runs").rglob("shard-*"))


# --------------------------------------------------------------------------------------
# Prompts of other kinds


def test_a_phase_keeps_the_prompts_it_finds_and_trains_beside_them(training_set, finetune):
    data = training_set(16)
    pixels = {"pixel_strength": 0.5, "pixel_background": 0.5, "learning_rate": 2e-2}
    before = finetune(data, trains="pixel_prompts", learn_background=True, **pixels)
    start = tensors_of(before.payload())
    assert start["pixel_prompts.strength"] == 0.5
    # fine-tuning after prompts, and tokens after pixels
    for trains in ("image_encoder", "mask_prompts"):
        end = tensors_of(finetune(data, trains=trains, checkpoint=before).payload())
        kept = [name for name in start if name.startswith("pixel_prompts.")]
        assert kept and all(torch.equal(start[name], end[name]) for name in kept)
    # a further phase goes on from them, but draws anew what other settings ask for
    again = {"trains": "pixel_prompts", "device": "cpu", **pixels}
    for learned, same in ((True, True), (False, False)):
        model = starting_clip(
            str(before.payload()), FinetuneConfig(learn_background=learned, **again)
        )
        assert torch.equal(model.pixel_prompts.image, start["pixel_prompts.image"]) == same


def test_the_background_is_learned_where_the_region_has_one(training_set, finetune):
    data = training_set(16)
    settings = {"trains": "pixel_prompts", "pixel_background": 0.5, "learning_rate": 2e-2}
    tuned = finetune(data, region="image", learn_background=True, **settings)
    assert tuned.stats["trained_parameters"] == 3 * 32 * 32 + 1 + 1
    learned = load_clip(str(tuned.payload())).pixel_prompts.background.detach()
    assert 0 < learned < 1 and (learned - 0.5).abs() > 1e-3
    fixed = load_clip(str(finetune(data, region="image", **settings).payload()))
    assert float(fixed.pixel_prompts.background) == 0.5
    with pytest.raises(OvsegError, match="starts between 0 and 1"):
        finetune(data, learn_background=True, **{**settings, "pixel_background": 1.0})


def test_visual_prompts_are_drawn_by_the_seed(tiny_clip):
    def start(**settings) -> torch.Tensor:
        values = {"trains": "visual_prompts", "device": "cpu", **settings}
        drawn = starting_clip(str(tiny_clip), FinetuneConfig(**values)).visual_prompts
        assert drawn is not None
        return drawn.detach()

    drawn = start(visual_tokens=10, visual_depth=2)
    assert drawn.shape == (2, 10, 32) and drawn.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(drawn, start(visual_tokens=10, visual_depth=2))
    assert not torch.equal(drawn, start(visual_tokens=10, visual_depth=2, seed=1))


def test_prompts_have_their_own_learning_rate_and_decay(tiny_clip):
    values = {"trains": "joint_mask_and_pixel_prompts", "device": "cpu", "pixel_background": 0.5}
    settings = FinetuneConfig(learn_background=True, **values)
    model = starting_clip(str(tiny_clip), settings)
    parameters = freeze_except(model, settings.trains, train_logit_scale=True)
    names = {id(parameter): name for name, parameter in parameters.items()}
    groups = parameter_groups(
        parameters, weight_decay=0.2, prompt_weight_decay=0.1, prompt_rate=40.0
    )
    found = {
        names[id(parameter)]: (group["weight_decay"], group["rate"])
        for group in groups
        for parameter in group["params"]
    }
    assert found.keys() == parameters.keys()
    assert found["mask_prompts"] == found["pixel_prompts.image"] == (0.1, 40)
    assert found["pixel_prompts.background_logit"] == (0, 40)
    assert found["clip.visual.conv1.weight"] == (0.2, 1)
    assert found["clip.visual.ln_pre.weight"] == found["clip.logit_scale"] == (0, 1)
    texts = torch.nn.functional.normalize(torch.randn(2, 16), dim=-1)
    settings = settings.model_copy(update={"learning_rate": 1e-3, "prompt_learning_rate": 2e-2})
    trainer = Trainer(model, texts, config=settings, total_steps=200)
    trainer.step(torch.randn(2, 3, 32, 32), torch.ones(2, 32, 32) > 0, torch.tensor([0, 1]))
    rates = {group["rate"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates[20.0] == pytest.approx(20 * rates[1.0])
