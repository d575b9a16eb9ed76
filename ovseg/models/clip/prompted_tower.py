"""The forward pass of open_clip's image tower with learned tokens.

Mask prompts (OVSeg, CVPR 2023, section 3.3) replace patches that are all background. Visual prompts
(VPT-deep, Jia et al., ECCV 2022), which the paper compares them with, are tokens in addition to the
patches, whatever the mask.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ovseg.models.clip.trained_blocks import run_block, takes_part


def patch_masks(masks_nhw: Tensor, patch_size: int) -> Tensor:
    """Find the patches that contain any foreground.

    Args:
        masks_nhw: `(N, S, S)` bool or float >= 0, foreground where above zero.
        patch_size: side of a patch in pixels; `S` is a multiple of it.

    Returns:
        `(N, G*G)` float32, row-major, 1 where the patch has any foreground pixel, else 0: the
        ceiling of an average pool, as the official implementation computes it.
    """
    pooled = F.avg_pool2d(masks_nhw.unsqueeze(1).float(), patch_size, stride=patch_size)
    return pooled.ceil().flatten(1)


def prompted_features(
    visual: Any,
    pixels_nchw: Tensor,
    masks_nhw: Tensor | None,
    *,
    mask_prompts: Tensor | None = None,
    visual_prompts: Tensor | None = None,
) -> Tensor:
    """Run open_clip's `VisionTransformer` with prompts, or without in training.

    Args:
        visual: the tower.
        pixels_nchw: `(N, 3, S, S)` float, normalized.
        masks_nhw: `(N, S, S)` bool or float >= 0, needed by mask prompts.
        mask_prompts: `(D, P or 1, width)`: at the input and after blocks 1..D-1.
        visual_prompts: `(D, T, width)`: T tokens between class token and patches at the input of
            blocks 1..D, each block's replacing the previous block's outputs; the outputs of block D
            pass through the remaining blocks, as in the authors' code.

    Returns:
        `(N, E)` embeddings, not normalized.
    """
    transformer = visual.transformer
    x = visual.conv1(pixels_nchw).flatten(2).permute(0, 2, 1)  # (N, G*G, width)
    keep = None
    if mask_prompts is not None and masks_nhw is not None:
        keep = patch_masks(masks_nhw, int(visual.patch_size[0])).unsqueeze(-1).to(x.dtype)
        mask_prompts = mask_prompts.to(x.dtype)
        x = x * keep + mask_prompts[0] * (1 - keep)
    cls = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    x = torch.cat([cls, x], dim=1) + visual.positional_embedding.to(x.dtype)
    x = visual.ln_pre(x)
    tokens = 0  # visual prompts in x
    blocks = len(transformer.resblocks)
    class_token = visual.pool_type == "tok" and visual.attn_pool is None
    for depth, block in enumerate(transformer.resblocks, start=1):
        if visual_prompts is not None and depth <= len(visual_prompts):
            own = visual_prompts[depth - 1].to(x.dtype).expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], own, x[:, 1 + tokens :]], dim=1)
            tokens = own.shape[1]
        x = _after_block(transformer, block, x, class_token=class_token and depth == blocks)
        if mask_prompts is not None and keep is not None and depth < len(mask_prompts):
            first = 1 + tokens
            patches = x[:, first:] * keep + mask_prompts[depth] * (1 - keep)
            x = torch.cat([x[:, :first], patches], dim=1)
    if tokens:
        x = torch.cat([x[:, :1], x[:, 1 + tokens :]], dim=1)
    features: Tensor = visual._pool(x)[0]
    return features if visual.proj is None else features @ visual.proj


def _after_block(transformer: Any, block: Any, x: Tensor, *, class_token: bool) -> Tensor:
    """Run a block on `(N, L, width)`; in training, one may return only its class token."""
    if takes_part(block, x):
        run = functools.partial(run_block, block, class_token=class_token)
    else:
        run = functools.partial(_run_itself, block, batch_first=transformer.batch_first)
    if transformer.grad_checkpointing and torch.is_grad_enabled():
        after: Tensor = checkpoint(run, x, use_reentrant=False)
        return after
    return run(x)


def _run_itself(block: Any, x: Tensor, *, batch_first: bool) -> Tensor:
    after: Tensor = block(x) if batch_first else block(x.transpose(0, 1)).transpose(0, 1)
    return after
