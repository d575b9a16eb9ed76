"""Contrastive losses: by hand, against recorded values of the official one, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ovseg.training.clip.losses import clip_loss, distinct_noun_loss, soft_targets

ZERO = torch.tensor(0.0)


def embeddings(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_clip_loss_by_hand():
    # two orthogonal pairs at scale 2: every row is (2, 0) against its own text
    eye = torch.eye(2)
    expected = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert clip_loss(eye, eye, torch.tensor(math.log(2))).item() == pytest.approx(expected)
    # swapped texts: the wrong one has all the similarity
    wrong = -math.log(1 / (math.exp(2) + 1))
    assert clip_loss(eye, eye.flip(0), torch.tensor(math.log(2))).item() == pytest.approx(wrong)


def test_one_pair_has_nothing_to_be_told_from():
    one = embeddings(1, 0)
    assert clip_loss(one, one, ZERO).item() == 0
    assert distinct_noun_loss(one, one, torch.tensor([0]), ZERO).item() == pytest.approx(0)


def test_repeated_nouns_are_negatives_in_clip_loss_alone():
    images, noun = torch.eye(2), torch.tensor([[1.0, 0.0]])
    # both texts equal: region -> noun cannot do better than a coin, though nothing is wrong
    coin = (math.log(2) + (math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2) / 2
    assert clip_loss(images, noun.repeat(2, 1), ZERO).item() == pytest.approx(coin)
    single = distinct_noun_loss(images, noun, torch.tensor([0, 0]), ZERO)
    assert single.item() == pytest.approx(0)


def test_distinct_noun_loss_by_hand():
    # regions a, a, b; nouns A, B: similarities to A (1, .5, 0), to B (0, .5, 1); scale 1
    nouns = torch.eye(2)
    images = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])  # lengths play no part here
    to_noun = (math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(-1))) / 3
    # A's regions are each set against b alone (0); B's against both of A's (0 and .5)
    to_region = (
        math.log1p(math.exp(0 - 1))
        + math.log1p(math.exp(0 - 0.5))
        + math.log1p((math.exp(0) + math.exp(0.5)) / math.exp(1))
    ) / 3
    loss = distinct_noun_loss(images, nouns, torch.tensor([0, 0, 1]), ZERO)
    assert loss.item() == pytest.approx((to_noun + to_region) / 2)


def test_both_losses_agree_where_all_nouns_differ():
    images, texts, scale = embeddings(6, 1), embeddings(6, 2), torch.tensor(1.3)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    expected = clip_loss(images, texts[order], scale)
    torch.testing.assert_close(distinct_noun_loss(images, texts, order, scale), expected)


@pytest.mark.parametrize("nouns", [[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3]])
def test_gradients_are_finite_whatever_repeats(nouns: list[int]):
    images = embeddings(4, 3).requires_grad_()
    scale = torch.tensor(4.0, requires_grad=True)
    numbers = torch.tensor(nouns)
    distinct_noun_loss(images, embeddings(len(set(nouns)), 4), numbers, scale).backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert scale.grad is not None and scale.grad.isfinite()


def test_bfloat16_embeddings_give_a_float32_loss():
    images, texts = embeddings(4, 5), embeddings(4, 6)
    loss = clip_loss(images.bfloat16(), texts, torch.tensor(2.0))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        clip_loss(images, texts, torch.tensor(2.0)).item(), rel=0.05
    )


@pytest.mark.parametrize("name", ["n1", "n2", "n6", "n9"])
def test_clip_loss_is_the_recorded_one_with_its_gradients(agrees, recording, name: str):
    golden = load_file(recording("clip_finetune_loss/loss.safetensors"))
    names = {"image_features": 0, "text_features": 1, "logit_scale_param": 2}
    inputs = [golden[f"{name}.{part}"].clone().requires_grad_() for part in names]
    loss = clip_loss(*inputs)
    loss.backward()
    case = f"clip_finetune_loss/contrastive loss, {name}"
    agrees(case, "loss", loss, golden[f"{name}.loss"], tolerance=1e-6)
    for part, index in names.items():
        expected = golden[f"{name}.grad.{part}"]
        agrees(case, f"gradient of {part}", inputs[index].grad, expected, tolerance=2e-6)


def test_targets_smoothed_by_how_alike_nouns_are_against_loops():
    nouns, images, scale = embeddings(3, 5), embeddings(4, 6), torch.tensor(1.5)
    numbers, share, temperature = [0, 2, 2, 1], 0.3, 0.4
    found = soft_targets(nouns, share, temperature)
    for k in range(3):
        alike = [math.exp(float(nouns[k] @ nouns[j]) / temperature) for j in range(3)]
        for j in range(3):
            expected = (1 - share) * (j == k) + share * alike[j] / sum(alike)
            assert float(found[k, j]) == pytest.approx(expected, abs=1e-6)
    hard = distinct_noun_loss(images, nouns, torch.tensor(numbers), scale)
    soft = distinct_noun_loss(
        images, nouns, torch.tensor(numbers), scale, smoothing=share, temperature=temperature
    )
    total = 0.0
    for n, k in enumerate(numbers):
        logits = [math.exp(1.5) * float(images[n] @ nouns[j]) for j in range(3)]
        norm = math.log(sum(math.exp(logit) for logit in logits))
        total += sum(float(found[k, j]) * (norm - logits[j]) for j in range(3))
        total -= norm - logits[k]  # what the hard target would have cost
    assert float(soft - hard) == pytest.approx(total / len(numbers) / 2, abs=1e-5)


def test_smoothing_sends_no_gradient_through_the_targets():
    nouns = embeddings(3, 5).requires_grad_()
    assert not soft_targets(nouns, 0.5, 0.1).requires_grad
    images, numbers = embeddings(3, 6).requires_grad_(), torch.arange(3)
    distinct_noun_loss(images, nouns, numbers, ZERO, smoothing=0.5).backward()
    assert images.grad is not None and images.grad.isfinite().all()
