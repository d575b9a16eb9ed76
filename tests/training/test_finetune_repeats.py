"""The fine-tuning stage gives the same again: kills, snapshots, damaged states, golden losses."""

import shutil

import pytest
import torch
from safetensors import safe_open
from toy_phases import config, log_of

from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import PROMPT_KEY
from ovseg.stages.run import finish, run_shard, stage_folder
from ovseg.training.clip.snapshots import find_snapshots, restore_snapshot, snapshot_steps
from ovseg.training.clip.stage import FINETUNE, starting_clip

# Of 20 steps of mask prompt tuning on 64 synthetic pairs, the same on one thread and on two: other
# losses mean that something else is trained.
GOLDEN_LOSSES = [
    *(3.461619, 3.142905, 2.815444, 2.756019, 2.793233, 2.716279, 2.65494),
    *(2.627298, 2.633734, 2.564654, 2.63924, 2.570318, 2.743979, 2.500969),
    *(2.596113, 2.543478, 2.552597, 2.532983, 2.612797, 2.672396),
]


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
    with pytest.raises(OvsegError, match="is not a snapshot of this model"):
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


@pytest.mark.parametrize("snapshots", [0, 2])
def test_a_training_killed_after_its_last_step_takes_none_again(
    training_set, finetune, tiny_clip, tmp_path, snapshots
):
    """Before its files are written, before they are recorded, before the stage is finished."""
    data = training_set(16)
    settings = {"epochs": 3, "checkpoint_every": 500, "snapshots": snapshots}
    whole = finetune(data, root="whole", **settings)
    assert whole.rows == 6
    seen: list[int] = []

    def kill(advance: int) -> None:
        seen.append(advance)
        if sum(seen) == 6:
            raise Killed

    with pytest.raises(Killed):
        finetune(data, root="killed", progress=kill, **settings)
    assert seen == [1] * 6
    phase = config(tiny_clip, data, **settings)
    inputs = {"curated": data.curated, "table": data.table}
    folder, plan = stage_folder(FINETUNE, phase, inputs, tmp_path / "killed")
    for _ in range(2):
        seen = []
        record = run_shard(FINETUNE, phase, inputs, folder, shard=0, progress=seen.append)
        assert seen == [6]
        assert record.sha256 == whole.shards[0].sha256
        (folder / "shard-00000.json").unlink()  # killed before it was written
    seen = []
    run_shard(FINETUNE, phase, inputs, folder, shard=0, progress=seen.append)
    assert (folder / "state").is_dir()  # killed here, too, nothing would be lost
    finished = finish(FINETUNE, phase, inputs, folder, plan)
    assert finished.content_digest == whole.content_digest
    assert not (folder / "state").exists()


def test_an_altered_state_is_noticed_wherever_it_was_altered(
    training_set, finetune, tiny_clip, tmp_path, caplog
):
    data = training_set(8)
    settings = {"checkpoint_every": 2, "epochs": 4, "snapshots": 2}
    whole = finetune(data, root="whole", **settings)
    inputs = {"curated": data.curated, "table": data.table}

    def kill(advance: int) -> None:
        seen.append(advance)
        if sum(seen) == 3:
            raise Killed

    seen: list[int] = []
    with pytest.raises(Killed):
        finetune(data, progress=kill, **settings)
    folder, _ = stage_folder(
        FINETUNE, config(tiny_clip, data, **settings), inputs, tmp_path / "runs"
    )
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    content = (kept / "state/latest.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    places = [content.index(b"identity") + 16, content.index(b"step") + 8]
    places += [header + 3, (header + len(content)) // 2, len(content) - 2]
    for place in [*places, None]:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        if place is None:
            (path,) = folder.rglob("step-000002.safetensors")
        else:
            path = folder / "state/latest.safetensors"
        altered = bytearray(path.read_bytes())
        altered[-9 if place is None else place] ^= 1
        path.write_bytes(altered)
        caplog.clear()
        seen = []
        again = finetune(data, progress=seen.append, **settings)
        assert seen == [1, 1, 1, 1], place
        assert again.content_digest == whole.content_digest
        assert "latest.safetensors cannot be resumed (" in caplog.text
        assert "training starts from its first step" in caplog.text
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    caplog.clear()
    seen = []
    finetune(data, progress=seen.append, **settings)
    assert seen == [2, 1, 1] and not caplog.text


def test_how_it_is_run_does_not_change_the_result(training_set, finetune):
    data = training_set(16)
    expected = finetune(data, root="plain", trains="joint")
    settings = {"decode_workers": 2, "checkpoint_every": 0, "gradient_checkpointing": True}
    other = finetune(data, root="other", trains="joint", **settings)
    assert other.digest == expected.digest
    assert other.content_digest == expected.content_digest
    again = finetune(data, root="plain", trains="joint", progress=lambda n: pytest.fail("redone"))
    assert again == expected
    assert finetune(data, seed=1, trains="joint").content_digest != expected.content_digest


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
