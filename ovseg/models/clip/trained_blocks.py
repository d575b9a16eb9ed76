"""open_clip's image blocks in training: the same sums in the same order, with fewer copies.

A block's own forward pass packs queries, keys and values into one tensor, and takes three slices of
it. Their gradients are three tensors of zeros with one slice filled, which are added up; here they
are stacked. Where the weights are frozen, the rows of a batch may pass through them in any order,
so nothing is transposed, and of the last block only the class token is computed.

In float32 on x86 CPUs, losses and gradients equal those of the block itself to the last bit, as
`python -m bench training_step` shows; elsewhere they may round differently.
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


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of a module is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def run_block(block: ResidualAttentionBlock, x_nld: Tensor, *, class_token: bool = False) -> Tensor:
    """Run a block for which `takes_part` holds.

    Args:
        block: the block.
        x_nld: `(N, L, width)` tokens.
        class_token: compute only the first token; the block must be frozen.

    Returns:
        `(N, L, width)`, or `(N, 1, width)`.
    """
    attended = _attention(block.attn, block.ln_1(x_nld))
    if class_token:
        attended, x_nld = attended[:, :1], x_nld[:, :1]
    out = block.attn.out_proj
    x = x_nld + block.ls_1(_in_its_order(attended, out.weight, out.bias))
    after: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return after


def _in_its_order(x_nld: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer; a trained one to rows token by token, the order of its gradient's sum.

    Args:
        x_nld: `(N, L, in)`.
        weight: `(out, in)`.
        bias: `(out,)`.

    Returns:
        `(N, L, out)`.
    """
    if not weight.requires_grad:
        return F.linear(x_nld, weight, bias)
    n, length, _ = x_nld.shape
    rows = x_nld.transpose(0, 1).reshape(length * n, -1)
    return F.linear(rows, weight, bias).view(length, n, -1).transpose(0, 1)


def _attention(attention: nn.MultiheadAttention, x_nld: Tensor) -> Tensor:
    """Return the attended values of all heads `(N, L, width)`, before the output's projection."""
    n, length, width = x_nld.shape
    packed = _in_its_order(x_nld, attention.in_proj_weight, attention.in_proj_bias)
    heads = packed.view(n, length, 3, attention.num_heads, -1)
    query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).reshape(n, length, width)
