"""CLIP's text tower, run on only as many tokens as the longest text has."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.models.clip.open_clip_model import OpenClipModel


def encode_trimmed(clip: OpenClipModel, tokens: Tensor) -> Tensor:
    """Run `encode_tokens` without computing the padding after the longest text.

    Attention is causal and the embedding is read at the end-of-text token, so the tokens after it
    only change rounding. Names in templates fill a fifth of the usual context of 77.

    Args:
        clip: a model; a text tower other than open_clip's own is run over its whole context.
        tokens: `(T, context)` int64 ids, zero-padded; T is at least 1.

    Returns:
        `(T, E)` rows of L2 norm 1.
    """
    if not reads_the_end(clip):
        return clip.encode_tokens(tokens)
    ends = tokens.argmax(dim=1)
    tokens = tokens[:, : int(ends.max()) + 1]
    return encode_embedded(clip, clip.clip.token_embedding(tokens), ends)


def encode_embedded(clip: OpenClipModel, x: Tensor, ends: Tensor) -> Tensor:
    """Run the text transformer over texts whose tokens are already embedded.

    Args:
        clip: a model that `reads_the_end`.
        x: `(T, L, width)` token embeddings without positions, L at most the context length.
        ends: `(T,)` int64 position of each text's end-of-text token.

    Returns:
        `(T, E)` rows of L2 norm 1, with gradients if `x` has them.
    """
    model, length = clip.clip, x.shape[1]
    x = model.transformer(
        x + model.positional_embedding[:length], attn_mask=model.attn_mask[:length, :length]
    )
    x = model.ln_final(x)[torch.arange(len(x), device=x.device), ends]
    return F.normalize(x @ model.text_projection, dim=-1)


def reads_the_end(clip: OpenClipModel) -> bool:
    """Whether open_clip's own tower embeds texts, at the end-of-text token only."""
    import open_clip

    model = clip.clip
    if not isinstance(model, open_clip.CLIP):
        return False
    causal = model.attn_mask is not None and model.text_pool_type == "argmax"
    return causal and isinstance(model.text_projection, Tensor)
