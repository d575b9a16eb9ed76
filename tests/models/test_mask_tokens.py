"""Mask tokens against single masks with attention written out, and against plain CLIP."""

import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer

from ovseg.errors import OvsegError
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP, resized_patches
from ovseg.models.clip.mask_tokens import covered_patches, encode_mask_tokens
from ovseg.models.regions.picture_embedders import MaskTokenEmbedder

SIZE, PATCH, GRID = 32, 8, 4
VISION = {"image_size": SIZE, "patch_size": PATCH, "width": 48, "head_width": 16, "layers": 2}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def make_clip(**vision):
    torch.manual_seed(3)
    model = open_clip.CLIP(embed_dim=24, vision_cfg={**VISION, **vision}, text_cfg=TEXT).eval()
    with torch.no_grad():  # open_clip starts its biases at zero, which would hide a mistake
        for parameter in model.visual.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return MaskAdaptedCLIP(model, tokenizer=SimpleTokenizer(context_length=8))


@pytest.fixture(scope="module")
def clip():
    return make_clip()


def naive_token(clip, pixels_chw, covered_p):
    """One mask's embedding: all tokens in one sequence, every softmax written out."""
    visual = clip.clip.visual
    side = pixels_chw.shape[-1] // PATCH
    positions = visual.positional_embedding
    positions = torch.cat([positions[:1], resized_patches(positions[1:], side)])
    patches = visual.conv1(pixels_chw[None])[0].flatten(1).T
    x = visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + positions)
    x = torch.cat([x, x[:1]])  # the mask token comes last
    last = len(x) - 1
    for block in visual.transformer.resblocks:
        normed = block.ln_1(x)
        q, k, v = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
        heads, width = block.attn.num_heads, q.shape[-1] // block.attn.num_heads
        mixed = torch.zeros_like(x)
        for token in range(len(x)):
            allowed = list(range(last))  # nobody looks at the mask token
            if token == last:
                allowed = [0] + [1 + int(j) for j in covered_p.nonzero()]
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                scores = k[allowed][:, part] @ q[token, part] / math.sqrt(width)
                weights = (scores - scores.max()).exp()
                mixed[token, part] = weights / weights.sum() @ v[allowed][:, part]
        x = x + block.attn.out_proj(mixed)
        x = x + block.mlp(block.ln_2(x))
    return F.normalize(visual.ln_post(x[last]) @ visual.proj, dim=-1)


@pytest.mark.parametrize("side", [SIZE, SIZE + PATCH])
@torch.no_grad()
def test_every_token_is_that_of_a_loop_over_single_masks(clip, side):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, side, side, generator=generator)
    covered = torch.rand(2, 4, (side // PATCH) ** 2, generator=generator) > 0.6
    covered[0, 1] = False  # sees the class token alone
    covered[1, 2] = True
    tokens, pictures = encode_mask_tokens(clip, pixels, covered)
    assert tokens.shape == (2, 4, 24) and pictures.shape == (2, 24)
    assert tokens.dtype == torch.float32 and bool(tokens.isfinite().all())
    for n in range(2):
        for q in range(4):
            expected = naive_token(clip, pixels[n], covered[n, q])
            torch.testing.assert_close(tokens[n, q], expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_the_picture_is_embedded_as_by_plain_clip(clip):
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    _, pictures = encode_mask_tokens(clip, pixels, torch.ones(2, 3, 16, dtype=torch.bool))
    assert torch.equal(pictures, clip.encode_regions(pixels))


@torch.no_grad()
def test_a_mask_of_everything_gives_the_class_token(clip):
    pixels = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    tokens, pictures = encode_mask_tokens(clip, pixels, torch.ones(1, 1, 16, dtype=torch.bool))
    # the class token attends to itself and all patches: so does the mask token, from the same start
    torch.testing.assert_close(tokens[0], pictures, atol=1e-5, rtol=0)


@torch.no_grad()
def test_masks_do_not_see_one_another_and_an_outside_patch_leaves_no_trace_in_one_block():
    clip = make_clip(layers=1)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(1, 3, SIZE, SIZE, generator=generator)
    covered = torch.zeros(1, 2, 16, dtype=torch.bool)
    covered[0, 0, :4] = covered[0, 1, 8:] = True
    both, _ = encode_mask_tokens(clip, pixels, covered)
    alone, _ = encode_mask_tokens(clip, pixels, covered[:, :1])
    torch.testing.assert_close(both[:, :1], alone, atol=1e-6, rtol=0)
    changed = pixels.clone()
    changed[..., 2 * PATCH :, :] += 1  # the lower half: patches 8..15
    moved, _ = encode_mask_tokens(clip, changed, covered)
    torch.testing.assert_close(moved[0, 0], both[0, 0], atol=1e-6, rtol=0)
    assert (moved[0, 1] - both[0, 1]).abs().max() > 1e-2


@torch.no_grad()
def test_sequence_first_blocks_and_bfloat16_agree(clip):
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    covered = torch.rand(2, 5, 16, generator=generator) > 0.5
    tokens, pictures = encode_mask_tokens(clip, pixels, covered)
    other = make_clip()
    transformer = other.clip.visual.transformer
    transformer.batch_first = False
    for block in transformer.resblocks:
        block.attn.batch_first = False
    swapped, swapped_pictures = encode_mask_tokens(other, pixels, covered)
    torch.testing.assert_close(swapped, tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(swapped_pictures, pictures, atol=1e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = encode_mask_tokens(clip, pixels, covered)
    assert bool(rounded.isfinite().all())
    assert float((rounded.float() * tokens).sum(-1).min()) > 0.98


def test_gradients_reach_the_tower_with_and_without_checkpointing_and_no_text(clip):
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    covered = torch.ones(2, 1, 16, dtype=torch.bool)
    covered[..., :8] = False
    gradients = []
    for checkpointing in (False, True):
        clip.clip.visual.transformer.grad_checkpointing = checkpointing
        clip.zero_grad(set_to_none=True)
        tokens, _ = encode_mask_tokens(clip, pixels, covered)
        tokens[..., 0].sum().backward()
        visual = clip.clip.visual
        gradients.append(visual.transformer.resblocks[0].attn.in_proj_weight.grad.clone())
        assert visual.conv1.weight.grad is not None
        for name, parameter in clip.clip.named_parameters():
            if not name.startswith("visual."):
                assert parameter.grad is None, name
    clip.clip.visual.transformer.grad_checkpointing = False
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_covered_patches_are_those_with_a_pixel_above():
    generator = np.random.default_rng(0)
    masks = torch.from_numpy(generator.random((3, 37, 50)).astype(np.float32)) ** 8
    found = covered_patches(masks > 0.5, GRID).reshape(3, GRID, GRID)
    for q in range(3):
        for i in range(GRID):
            for j in range(GRID):
                rows = slice(i * 37 // GRID, -(-(i + 1) * 37 // GRID))
                columns = slice(j * 50 // GRID, -(-(j + 1) * 50 // GRID))
                assert bool(found[q, i, j]) == bool((masks[q, rows, columns] > 0.5).any())
    assert covered_patches(masks[:0], GRID).shape == (0, GRID * GRID)


def test_the_embedder_leaves_empty_masks_out(clip):
    image = np.random.default_rng(1).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    masks = torch.zeros(3, 40, 56)
    masks[0, 3, 5], masks[2, 20:, 10:] = 0.9, 0.6
    masks[1] = 0.3
    embedder = MaskTokenEmbedder(clip)
    embeddings, valid = embedder.embed(image, masks, threshold=0.4)
    assert valid.tolist() == [True, False, True]
    assert embeddings.shape == (2, 24)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    of_bools, _ = embedder.embed(image, masks > 0.4, threshold=None)
    assert torch.equal(of_bools, embeddings)
    one, _ = embedder.embed(image, masks[2:], threshold=0.4)
    torch.testing.assert_close(one, embeddings[1:], atol=1e-5, rtol=0)
    for nothing in (masks[:0], masks[1:2]):
        none, valid = embedder.embed(image, nothing, threshold=0.4)
        assert none.shape == (0, 24) and len(valid) == len(nothing) and not valid.any()
    larger, _ = MaskTokenEmbedder(clip, size=2 * SIZE).embed(image, masks, threshold=0.4)
    assert larger.shape == (2, 24)


def test_what_does_not_fit_is_refused(clip):
    with pytest.raises(OvsegError, match="class token"):
        MaskTokenEmbedder(make_clip(pool_type="avg"))
    with pytest.raises(OvsegError, match="whole patches of 8"):
        MaskTokenEmbedder(clip, size=20)
    with pytest.raises(ValueError, match="not squares"):
        encode_mask_tokens(clip, torch.zeros(1, 3, 20, 20), torch.ones(1, 1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not fit"):
        encode_mask_tokens(clip, torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 4, dtype=torch.bool))
