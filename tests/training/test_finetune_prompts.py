"""The fine-tuning stage with prompts of each kind, and with mask tokens."""

from pathlib import Path

import pytest
import torch
from toy_phases import config, log_of, tensors_of

from ovseg.config.registry import METHODS
from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import PROMPT_KEY
from ovseg.training.clip.methods import freeze_except, phase_groups
from ovseg.training.clip.stage import starting_clip
from ovseg.training.clip.trainer import Trainer


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
    with pytest.raises(OvsegError, match="must start between 0 and 1"):
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
    groups = phase_groups(parameters, weight_decay=0.2, prompt_weight_decay=0.1, prompt_rate=40.0)
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


# --------------------------------------------------------------------------------------
# Mask tokens


@pytest.mark.parametrize("image_size", [0, 48])
def test_mask_tokens_are_trained_on_whole_pictures(training_set, finetune, tiny_clip, image_size):
    settings = {"embedder": "mask_tokens", "region": "image", "image_size": image_size}
    checkpoint = finetune(training_set(), epochs=6, learning_rate=2e-3, **settings)
    losses = log_of(checkpoint)["loss"]
    assert sum(losses[-2:]) < sum(losses[:2]) - 0.2
    before, after = tensors_of(tiny_clip), tensors_of(checkpoint.payload())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "visual.conv1.weight" in changed
    assert all(name.startswith("visual.") or name == "logit_scale" for name in changed)


def test_mask_tokens_want_the_picture_and_whole_patches(tiny_clip):
    wanted = {"embedder": "mask_tokens", "region": "image"}
    for settings in ({**wanted, "region": "mean"}, {**wanted, "image_size": 20}):
        with pytest.raises(OvsegError, match="multiple of 8"):
            starting_clip(str(tiny_clip), FinetuneConfig(device="cpu", **settings))
    with pytest.raises(OvsegError, match=r"only for arms\.embedder=mask_tokens: remove it"):
        starting_clip(str(tiny_clip), FinetuneConfig(device="cpu", image_size=48))


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
