"""Mask tokens: one pass of CLIP over a whole image, with one more class token per mask.

A mask token is a copy of the class token that attends to the class token and to the patches its
mask covers, and that no token attends to (MaskCLIP, ICML 2023, section 3.3). The image's own tokens
are therefore those of plain CLIP, and frozen weights stay valid; unlike a crop, the patches still
contain the image around the mask.

Since no token attends to mask tokens, the image's tokens pass through the blocks by themselves and
the mask tokens read each block's input, at the cost of Q queries instead of a longer sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ovseg.errors import OvsegError
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP, resized_patches

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock


def covered_patches(masks_qhw: Tensor, grid: int) -> Tensor:
    """Find the patches of an image that each mask covers: those in which it has a pixel.

    Args:
        masks_qhw: `(Q, H, W)` bool; each side of the image is divided into `grid` parts, whatever
            its shape, because CLIP sees it squashed. Q may be 0.
        grid: patches along one side.

    Returns:
        `(Q, grid * grid)` bool, row-major.
    """
    if not len(masks_qhw):
        return torch.zeros((0, grid * grid), dtype=torch.bool, device=masks_qhw.device)
    most = F.adaptive_max_pool2d(masks_qhw[None].float(), grid)[0]
    return most.flatten(1) > 0


def check_tower(clip: MaskAdaptedCLIP) -> None:
    """Reject a ViT whose embedding is not its class token, or with another kind of attention.

    Raises:
        OvsegError: if it is such a ViT.
    """
    from open_clip.transformer import ResidualAttentionBlock

    visual = clip.clip.visual
    if visual.attn_pool is not None or visual.pool_type != "tok":
        raise OvsegError("mask tokens need a CLIP that embeds an image by its class token")
    if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
        raise OvsegError("mask tokens need the plain blocks of open_clip's VisionTransformer")


def encode_mask_tokens(
    clip: MaskAdaptedCLIP, pixels_nchw: Tensor, covered_nqp: Tensor
) -> tuple[Tensor, Tensor]:
    """Embed images and their masks.

    Args:
        clip: the CLIP; its mask prompts, which belong to crops, are not used.
        pixels_nchw: `(N, 3, S, S)` float, normalized, S a multiple of the patch size; the
            positional embedding is interpolated if S is not the CLIP's own size.
        covered_nqp: `(N, Q, P)` bool, the patches that each mask covers. Q may be 0. A mask that
            covers none attends to the class token only.

    Returns:
        `(N, Q, E)` embeddings of the masks and `(N, E)` of the images as plain CLIP returns them,
        both of L2 norm 1.

    Raises:
        OvsegError: see `check_tower`.
        ValueError: if sizes do not fit.
    """
    check_tower(clip)
    side, patch = pixels_nchw.shape[-1], clip.patch_size
    if side % patch or pixels_nchw.shape[-2] != side:
        raise ValueError(
            f"images {tuple(pixels_nchw.shape)} are not squares of {patch} x {patch} patches"
        )
    if covered_nqp.shape[0] != len(pixels_nchw) or covered_nqp.shape[2] != (side // patch) ** 2:
        raise ValueError(
            f"masks over {tuple(covered_nqp.shape)} do not fit {tuple(pixels_nchw.shape)} pixels"
        )
    visual = clip.clip.visual
    transformer = visual.transformer
    image_tokens = _embedded(clip, pixels_nchw)
    tokens = image_tokens[:, :1].expand(-1, covered_nqp.shape[1], -1)
    # the class token is always visible, so that no row of the softmax is empty
    visible = torch.cat([torch.ones_like(covered_nqp[..., :1]), covered_nqp], dim=-1)
    for block in transformer.resblocks:
        if transformer.grad_checkpointing and torch.is_grad_enabled():
            tokens = checkpoint(_read, block, tokens, image_tokens, visible, use_reentrant=False)
            image_tokens = checkpoint(_advance, block, image_tokens, use_reentrant=False)
        else:
            tokens, image_tokens = (
                _read(block, tokens, image_tokens, visible),
                _advance(block, image_tokens),
            )
    masks, images = visual.ln_post(tokens), visual._pool(image_tokens)[0]
    if visual.proj is not None:
        masks, images = masks @ visual.proj, images @ visual.proj
    return F.normalize(masks, dim=-1), F.normalize(images, dim=-1)


def _embedded(clip: MaskAdaptedCLIP, pixels_nchw: Tensor) -> Tensor:
    """Return the tokens `(N, 1 + P, width)` that enter the first block: class token, patches."""
    visual = clip.clip.visual
    x = visual.conv1(pixels_nchw).flatten(2).permute(0, 2, 1)
    cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    positions = visual.positional_embedding
    grid = pixels_nchw.shape[-1] // clip.patch_size
    if grid != clip.grid:
        positions = torch.cat([positions[:1], resized_patches(positions[1:], grid)])
    embedded: Tensor = visual.ln_pre(torch.cat([cls, x], dim=1) + positions.to(x.dtype))
    return embedded


def _advance(block: ResidualAttentionBlock, image_nld: Tensor) -> Tensor:
    """Return the image's tokens after a block, as open_clip itself runs it."""
    if block.attn.batch_first:
        after: Tensor = block(image_nld)
        return after
    swapped: Tensor = block(image_nld.transpose(0, 1)).transpose(0, 1)
    return swapped


def _read(
    block: ResidualAttentionBlock, tokens_nqd: Tensor, image_nld: Tensor, visible_nql: Tensor
) -> Tensor:
    """Return the mask tokens after a block: they query the image's tokens with its weights."""
    attention: nn.MultiheadAttention = block.attn
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)

    def heads(x_nld: Tensor, part: int) -> Tensor:
        projected = F.linear(x_nld, weights[part], biases[part])
        return projected.reshape(*x_nld.shape[:2], attention.num_heads, -1).transpose(1, 2)

    keys = block.ln_1(image_nld)
    attended = F.scaled_dot_product_attention(
        heads(block.ln_1(tokens_nqd), 0),
        heads(keys, 1),
        heads(keys, 2),
        attn_mask=visible_nql[:, None],
    )
    out = attention.out_proj(attended.transpose(1, 2).flatten(2))
    tokens = tokens_nqd + block.ls_1(out)
    after: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return after
