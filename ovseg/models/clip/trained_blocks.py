"""open_clip's image blocks in training, with fewer copies.

A block's own forward pass packs queries, keys and values into one tensor, and takes three slices of
it. Their gradients are three tensors of zeros with one slice filled, which are added up; here they
are joined. Of the last block, only the class token's query and row are computed. Losses and
gradients are those of the block itself, up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock


def takes_part(block: Any, x: Tensor) -> bool:
    """Whether a block can run here: a plain one, batch first, that gradients pass through."""
    from open_clip.transformer import ResidualAttentionBlock

    if type(block) is not ResidualAttentionBlock or not torch.is_grad_enabled():
        return False
    attention = block.attn
    if not (attention.batch_first and attention.in_proj_weight is not None):
        return False
    return x.requires_grad or attention.in_proj_weight.requires_grad


def run_block(block: ResidualAttentionBlock, x_nld: Tensor, *, class_token: bool = False) -> Tensor:
    """Run a block for which `takes_part` holds.

    Args:
        block: the block.
        x_nld: `(N, L, width)` tokens.
        class_token: compute only the first token of the result.

    Returns:
        `(N, L, width)`, or `(N, 1, width)`.
    """
    attended = _attention(block.attn, block.ln_1(x_nld), class_token=class_token)
    if class_token:
        x_nld = x_nld[:, :1]
    x = x_nld + block.ls_1(block.attn.out_proj(attended))
    after: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return after


def _attention(attention: nn.MultiheadAttention, x_nld: Tensor, *, class_token: bool) -> Tensor:
    """Return the attended values of all heads `(N, L or 1, width)`, before the output layer."""
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    n, _, width = x_nld.shape
    if class_token:
        token = F.linear(x_nld[:, :1], weight[:width], bias[:width])
        parts = [token, *F.linear(x_nld, weight[width:], bias[width:]).chunk(2, dim=2)]
    else:
        parts = list(F.linear(x_nld, weight, bias).chunk(3, dim=2))
    query, key, value = (
        part.view(n, part.shape[1], attention.num_heads, -1).transpose(1, 2) for part in parts
    )
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).reshape(n, -1, width)
