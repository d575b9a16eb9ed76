"""Blocks in training compute what open_clip's own blocks do, forwards and backwards."""

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from ovseg.models.clip.load import create_clip
from ovseg.models.clip.trained_blocks import run_block, takes_part

MODEL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 16, "layers": 3},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 1, "layers": 1},
}


def block_of(layer_scale: float | None = None) -> ResidualAttentionBlock:
    torch.manual_seed(0)
    block = ResidualAttentionBlock(64, 4, ls_init_value=layer_scale)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.2)
    return block


@pytest.mark.parametrize("layer_scale", [None, 0.5])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (40, 17)])
def test_outputs_and_gradients_are_the_blocks_own(layer_scale, frozen, shape):
    block = block_of(layer_scale).requires_grad_(not frozen)
    x = torch.randn(*shape, 64).requires_grad_()
    weights = torch.randn(*shape, 64)
    results = []
    for run in (block, lambda x: run_block(block, x)):
        assert takes_part(block, x)
        x.grad = None
        block.zero_grad()
        out = run(x)
        (out * weights).sum().backward()
        gradients = [p.grad.clone() for p in block.parameters() if p.grad is not None]
        results.append([out.detach(), x.grad.clone(), *gradients])
    assert len(results[0]) == (2 if frozen else len(results[1]))
    for own, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_class_token_alone_has_the_same_embedding_and_gradients(frozen):
    block = block_of().requires_grad_(not frozen)
    x = torch.randn(32, 17, 64).requires_grad_()
    results = []
    for alone in (False, True):
        x.grad = None
        block.zero_grad()
        out = run_block(block, x, class_token=alone)[:, 0]
        (out * torch.linspace(-1, 1, 64)).sum().backward()
        gradients = [p.grad.clone() for p in block.parameters() if p.grad is not None]
        results.append([out.detach(), x.grad.clone(), *gradients])
    assert len(results[0]) == len(results[1]) == (2 if frozen else 14)
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-4)
    assert run_block(block, x, class_token=True).shape == (32, 1, 64)


def test_others_run_themselves():
    x = torch.randn(2, 5, 64)
    block = block_of().requires_grad_(False)
    assert not takes_part(block, x)  # nothing is trained before or in it
    assert takes_part(block, x.clone().requires_grad_())
    assert takes_part(block.requires_grad_(True), x)
    with torch.no_grad():
        assert not takes_part(block, x)
    assert not takes_part(nn.Identity(), x)
    assert not takes_part(ResidualAttentionBlock(64, 4, batch_first=False), x)


@pytest.mark.parametrize("prompts", [0, 1, 3])
def test_a_tower_embeds_as_it_does_without_gradients(prompts):
    model = create_clip(MODEL, prompt_depth=prompts)
    pixels = torch.randn(6, 3, 32, 32)
    masks = torch.rand(6, 32, 32) > 0.9
    masks[:, :16] = False
    with torch.no_grad():
        expected = model.encode_regions(pixels, masks)
    for trained in ("all", "prompts"):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trained == "all" or name == "mask_prompts")
        ours = model.encode_regions(pixels, masks)
        torch.testing.assert_close(ours.detach(), expected, rtol=1e-5, atol=1e-6)
