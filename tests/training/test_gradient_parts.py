"""Batches in parts: the gradients of the whole batch's loss, and the same training."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_trace import COMMON, PHASES, fixed_clip, waves
from pydantic import ValidationError
from toy_phases import log_of

from ovseg.config.training import FinetuneConfig
from ovseg.stages.threads import fixed_threads
from ovseg.training.clip.gradients import EmbeddedInParts
from ovseg.training.clip.losses import clip_loss, distinct_noun_loss
from ovseg.training.clip.trainer import Trainer


@given(
    st.integers(2, 17),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 10),
)
@settings(deadline=None, max_examples=60)
def test_gradients_are_those_of_the_whole_batch(count, parts, distinct, key):
    pixels = waves(count, 3, 4, 4, key=key).double()
    masks = waves(count, 4, 4, key=key + 1) > 0
    nouns = torch.arange(count) % 3
    texts = F.normalize(waves(3, 5, key=2).double(), dim=-1)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    weight = waves(48, 5, key=4).double().requires_grad_()

    def embed(part, inside):
        return F.normalize((part * inside[:, None]).flatten(1) @ weight + 0.1, dim=-1)

    def loss_of(rows):
        if distinct:
            return distinct_noun_loss(rows, texts, nouns, scale)
        return clip_loss(rows, texts[nouns], scale)

    loss = loss_of(embed(pixels, masks))
    loss.backward()
    expected = (loss.detach(), weight.grad.clone(), scale.grad.clone())
    for k in (1, parts):
        weight.grad = scale.grad = None
        embedded = EmbeddedInParts(embed, pixels, masks, parts=k)
        loss = loss_of(embedded.embeddings)
        loss.backward()
        embedded.backward()
        for whole, in_parts in zip(expected, (loss.detach(), weight.grad, scale.grad)):
            # losses are float32 sums
            torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trains", list(PHASES))
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_halves_have_the_same_bytes_in_one_thread_and_in_two(trains, count):
    texts = F.normalize(waves(7, 16, key=3), dim=-1)
    pixels, masks = waves(count, 3, 32, 32, key=5), waves(count, 32, 32, key=6) > 0
    after = []
    for other in (None, ThreadPoolExecutor(1)):
        config = FinetuneConfig(trains=trains, **{**COMMON, **PHASES[trains]})
        model = fixed_clip(config.prompt_depth if trains == "mask_prompts" else 0)
        trainer = Trainer(model, texts, config=config, total_steps=20)
        trainer._other = other
        with fixed_threads():
            for _ in range(3):
                trainer.step(pixels, masks, torch.arange(count) % 7)
        after.append((trainer.log, {name: p.detach() for name, p in trainer.parameters.items()}))
    (alone, one), (together, two) = after
    assert alone == together
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("bad", [0, 2])
@pytest.mark.parametrize("other", [None, ThreadPoolExecutor(1)])
def test_an_error_of_either_half_is_raised(bad, other):
    def embed(part, inside):
        if part[0, 0] == bad:
            raise ValueError("cannot be embedded")
        return part

    pixels, masks = torch.arange(4.0)[:, None].expand(4, 3), torch.ones(4, 1)
    with pytest.raises(ValueError, match="cannot be embedded"):
        EmbeddedInParts(embed, pixels, masks, parts=1, other=other)


@pytest.mark.parametrize("trains", list(PHASES))
@pytest.mark.parametrize("loss", ["batch", "distinct"])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_step_is_that_of_the_whole_batch(trains, loss, parts):
    texts = F.normalize(waves(7, 16, key=3), dim=-1)
    pixels, masks = waves(8, 3, 32, 32, key=5), waves(8, 32, 32, key=6) > 0
    after = []
    for steps in (1, parts):
        settings = {**COMMON, **PHASES[trains], "loss": loss}
        config = FinetuneConfig(trains=trains, gradient_accumulation_steps=steps, **settings)
        model = fixed_clip(config.prompt_depth if trains == "mask_prompts" else 0)
        trainer = Trainer(model, texts, config=config, total_steps=20)
        trainer.step(pixels, masks, torch.arange(8) % 7)
        gradients = {name: p.grad for name, p in trainer.parameters.items()}
        after.append((trainer.log[0][2], gradients))
    (loss_whole, whole), (loss_parts, in_parts) = after
    assert loss_parts == pytest.approx(loss_whole, rel=1e-6)
    for name, gradient in whole.items():
        scale = gradient.abs().max()
        torch.testing.assert_close(
            in_parts[name], gradient, rtol=0, atol=2e-5 * float(scale) + 1e-12
        )


@pytest.mark.parametrize("trains", ["joint", "text_prompts", "visual_prompts"])
def test_a_training_in_parts_reaches_the_losses_of_the_whole(training_set, finetune, trains):
    data = training_set(16)
    settings = {"trains": trains, "template": "a photo of a {}.", "epochs": 2}
    whole = log_of(finetune(data, root="whole", **settings))["loss"]
    parts = finetune(data, root="parts", gradient_accumulation_steps=3, **settings)
    assert log_of(parts)["loss"] == pytest.approx(whole, rel=2e-5)


@pytest.mark.parametrize("trains", ["joint", "visual_prompts", "text_prompts"])
def test_recomputed_activations_change_no_byte(training_set, finetune, trains):
    data = training_set(16)
    kept = finetune(data, root="kept", trains=trains)
    again = finetune(data, root="again", trains=trains, gradient_checkpointing=True)
    assert again.digest == kept.digest
    assert again.content_digest == kept.content_digest


def test_more_parts_than_pairs_are_refused():
    with pytest.raises(ValidationError, match="set it to at most batch_size"):
        FinetuneConfig(batch_size=4, gradient_accumulation_steps=5)
