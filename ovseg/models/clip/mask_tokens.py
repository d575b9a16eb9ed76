"""Mask tokens: one pass of CLIP over a whole picture, and a class token more for every mask.

A mask token is a copy of the class token that looks at the class token and at the patches its mask
covers, and that nothing looks at (MaskCLIP, ICML 2023, section 3.3). So the picture's own tokens
are those of plain CLIP, and frozen weights stay valid; the picture around the mask is still in the
patches, where a crop would lack it.

Since no token attends to mask tokens, the picture's tokens go through the blocks by themselves and
the mask tokens read each block's input, at the price of Q queries instead of a longer sequence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ovseg.errors import OvsegError
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP, resized_patches


def covered_patches(masks_qhw: Tensor, grid: int) -> Tensor:
    """Tell which patches of a picture each mask covers: those in which it has a pixel.

    Args:
        masks_qhw: `(Q, H, W)` bool; the picture's sides are cut into `grid` parts
            each, whatever its shape, as CLIP sees it squashed. Q may be 0.
        grid: patches along one side.

    Returns:
        `(Q, grid * grid)` bool, row-major.
    """
    if not len(masks_qhw):
        return torch.zeros((0, grid * grid), dtype=torch.bool, device=masks_qhw.device)
    most = F.adaptive_max_pool2d(masks_qhw[None].float(), grid)[0]
    return most.flatten(1) > 0


def check_tower(clip: MaskAdaptedCLIP) -> None:
    """Refuse a ViT whose embedding is not its class token, or of attention of another kind.

    Raises:
        OvsegError: it is such a ViT.
    """
    visual = clip.clip.visual
    if visual.attn_pool is not None or visual.pool_type != "tok":
        raise OvsegError("mask tokens need a CLIP that embeds a picture by its class token")
    if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
        raise OvsegError("mask tokens need the plain blocks of open_clip's VisionTransformer")


def encode_mask_tokens(
    clip: MaskAdaptedCLIP, pixels_nchw: Tensor, covered_nqp: Tensor
) -> tuple[Tensor, Tensor]:
    """Embed the masks of pictures, and the pictures.

    Args:
        clip: the CLIP; its mask prompts, which belong to crops, take no part.
        pixels_nchw: `(N, 3, S, S)` float, normalised, S a multiple of the patch size; for another
            size than the CLIP's own its positional embedding is interpolated.
        covered_nqp: `(N, Q, P)` bool, the patches of the P that each mask covers. Q may be 0. A
            mask that covers none sees the class token alone.

    Returns:
        `(N, Q, E)` embeddings of the masks and `(N, E)` of the pictures as plain CLIP gives them,
        both of L2 norm 1.

    Raises:
        OvsegError: see `check_tower`.
        ValueError: sizes that do not fit.
    """
    check_tower(clip)
    side, patch = pixels_nchw.shape[-1], clip.patch_size
    if side % patch or pixels_nchw.shape[-2] != side:
        raise ValueError(f"pictures {tuple(pixels_nchw.shape)} are no squares of {patch} x {patch}")
    if covered_nqp.shape[0] != len(pixels_nchw) or covered_nqp.shape[2] != (side // patch) ** 2:
        raise ValueError(
            f"masks over {tuple(covered_nqp.shape)} do not fit {tuple(pixels_nchw.shape)} pixels"
        )
    visual = clip.clip.visual
    transformer = visual.transformer
    picture = _embedded(clip, pixels_nchw)
    tokens = picture[:, :1].expand(-1, covered_nqp.shape[1], -1)
    # the class token is seen always, so that no row of the softmax is empty
    seen = torch.cat([torch.ones_like(covered_nqp[..., :1]), covered_nqp], dim=-1)
    for block in transformer.resblocks:
        if transformer.grad_checkpointing and torch.is_grad_enabled():
            tokens = checkpoint(_read, block, tokens, picture, seen, use_reentrant=False)
            picture = checkpoint(_advance, block, picture, use_reentrant=False)
        else:
            tokens, picture = _read(block, tokens, picture, seen), _advance(block, picture)
    masks, pictures = visual.ln_post(tokens), visual._pool(picture)[0]
    if visual.proj is not None:
        masks, pictures = masks @ visual.proj, pictures @ visual.proj
    return F.normalize(masks, dim=-1), F.normalize(pictures, dim=-1)


def _embedded(clip: MaskAdaptedCLIP, pixels_nchw: Tensor) -> Tensor:
    """The tokens `(N, 1 + P, width)` that enter the first block: class token, patches."""
    visual = clip.clip.visual
    x = visual.conv1(pixels_nchw).flatten(2).permute(0, 2, 1)
    cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    positions = visual.positional_embedding
    grid = pixels_nchw.shape[-1] // clip.patch_size
    if grid != clip.grid:
        positions = torch.cat([positions[:1], resized_patches(positions[1:], grid)])
    embedded: Tensor = visual.ln_pre(torch.cat([cls, x], dim=1) + positions.to(x.dtype))
    return embedded


def _advance(block: ResidualAttentionBlock, picture_nld: Tensor) -> Tensor:
    """The picture's tokens after a block, as open_clip itself runs it."""
    if block.attn.batch_first:
        after: Tensor = block(picture_nld)
        return after
    swapped: Tensor = block(picture_nld.transpose(0, 1)).transpose(0, 1)
    return swapped


def _read(
    block: ResidualAttentionBlock, tokens_nqd: Tensor, picture_nld: Tensor, seen_nql: Tensor
) -> Tensor:
    """The mask tokens after a block: they query the picture's tokens with the block's weights."""
    attention: nn.MultiheadAttention = block.attn
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)

    def heads(x_nld: Tensor, part: int) -> Tensor:
        projected = F.linear(x_nld, weights[part], biases[part])
        return projected.reshape(*x_nld.shape[:2], attention.num_heads, -1).transpose(1, 2)

    keys = block.ln_1(picture_nld)
    attended = F.scaled_dot_product_attention(
        heads(block.ln_1(tokens_nqd), 0),
        heads(keys, 1),
        heads(keys, 2),
        attn_mask=seen_nql[:, None],
    )
    out = attention.out_proj(attended.transpose(1, 2).flatten(2))
    tokens = tokens_nqd + block.ls_1(out)
    after: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return after
