"""The fine-tuning stage end to end on a random CLIP: phases, bad input, divergence."""

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from toy_phases import log_of, tensors_of

from ovseg.errors import OvsegError
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import PROMPT_KEY
from ovseg.stages import schema
from ovseg.training.clip.batches import steps_per_epoch
from ovseg.training.clip.mapped import epoch_order
from ovseg.training.clip.methods import freeze_except
from ovseg.training.clip.stage import LOG_FILE


@pytest.mark.parametrize(
    ("trains", "loss", "train_logit_scale"),
    [
        ("image_encoder", "batch", True),
        ("mask_prompts", "distinct", True),
        ("joint_mask_and_pixel_prompts", "batch", False),
        ("visual_prompts", "distinct", False),
    ],
)
def test_a_checkpoint_has_what_its_phase_trained_and_the_rest_as_it_was(
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
        *({PROMPT_KEY} if "mask" in trains else ()),
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


def test_prompts_cannot_be_trained_where_there_are_none(tiny_clip):
    model = load_clip(str(tiny_clip))
    with pytest.raises(OvsegError, match="no 'mask_prompts' to train for 'mask_prompts'"):
        freeze_except(model, "mask_prompts", train_logit_scale=True)


def test_an_unknown_method_is_refused_with_the_known_ones(tiny_clip):
    with pytest.raises(OvsegError, match=r"arms\.trains: .*'nothing'.*image_encoder, mask_prompts"):
        freeze_except(load_clip(str(tiny_clip)), "nothing", train_logit_scale=True)


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
    for way in ("mapped", "stream"):
        tuned = finetune(data, input=way, root=f"runs-{way}")
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
    with pytest.raises(
        OvsegError, match=r"8 of 16 pairs are bad.*missing_file.*arms\.max_bad_fraction=0\.5$"
    ):
        finetune(data, progress=lambda n: pytest.fail("trained"))
    assert finetune(data, max_bad_fraction=0.5).stats["bad"] == 8
    for index in range(4, 8):
        Image.new("RGB", (48, 40)).save(data.image_root / f"{index:04d}.png")
    with pytest.raises(OvsegError, match=r"16 of 16 pairs are bad.* fix them$"):
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
