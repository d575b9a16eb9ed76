"""The text side: a class name becomes an embedding through prompt templates.

Every template is filled with the name and encoded, each embedding is scaled to length 1, their
mean is scaled to length 1 again. Names enter verbatim, commas and hyphens included.
"""

from collections.abc import Sequence

import open_clip
import torch
import torch.nn.functional as F
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.open_clip_model import OpenClipModel
from ovseg.registry import TEMPLATES, chosen

SINGLE = ("a photo of a {}.",)
MINING = ("a photo of a {}",)
SCENE = ("a photo of a {}.", "a picture of a {}.", "a {} in the scene.")
# Punctuation matters: the second to fifth sentences of `vild` end without a period
# (OVSeg, CVPR 2023, appendix A.2, and the official implementation).
VILD = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
IMAGENET = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def fill_templates(names: Sequence[str], templates: str | Sequence[str]) -> list[list[str]]:
    """Put every name into every template.

    Args:
        names: K class names, stripped of outer blanks and otherwise verbatim.
        templates: a key of `ovseg.registry.TEMPLATES`, or T templates with one `{}` each.

    Returns:
        K lists of T prompts.

    Raises:
        OvsegError: unknown key, no template, a template without `{}`, or an empty name.
    """
    if isinstance(templates, str):
        templates = chosen(TEMPLATES, templates, setting="benchmarks.templates")
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise OvsegError(f"every prompt template needs one {{}} for the name, got {templates!r}")
    stripped = [name.strip() for name in names]
    if not all(stripped):
        raise OvsegError(f"class name {stripped.index('') + 1} of {len(stripped)} is empty")
    return [[template.replace("{}", name) for template in templates] for name in stripped]


def text_embeddings(
    clip: OpenClipModel,
    names: Sequence[str],
    *,
    templates: str | Sequence[str],
    batch_size: int = 512,
) -> Tensor:
    """Embed class names by prompt ensembling, without gradients.

    Args:
        clip: the model; the result lies on its device.
        names: K class names.
        templates: a key of `ovseg.registry.TEMPLATES`, or templates with one `{}` each.
        batch_size: prompts encoded at once.

    Returns:
        `(K, E)` float rows of L2 norm 1; `(0, E)` for no names.

    Raises:
        OvsegError: see `fill_templates`.
    """
    return mean_embeddings(clip, fill_templates(names, templates), batch_size=batch_size)


def mean_embeddings(
    clip: OpenClipModel, prompts: Sequence[Sequence[str]], *, batch_size: int = 512
) -> Tensor:
    """Embed lists of prompts, each list as one: the mean of its embeddings, without gradients.

    Args:
        clip: the model; the result lies on its device.
        prompts: K lists of at least one prompt each, not all of one length.
        batch_size: prompts encoded at once.

    Returns:
        `(K, E)` float rows of L2 norm 1; `(0, E)` for no lists.
    """
    if not prompts:
        return clip.encode_texts([])
    flat = [prompt for of_name in prompts for prompt in of_name]
    lengths = [len(of_name) for of_name in prompts]
    with torch.no_grad():
        tokens = clip.tokenizer(flat).to(clip.logit_scale.device)
        rows = torch.cat([encode_trimmed(clip, part) for part in torch.split(tokens, batch_size)])
        means = [of_name.mean(dim=0) for of_name in torch.split(rows, lengths)]
        return F.normalize(torch.stack(means), dim=-1)


def encode_trimmed(clip: OpenClipModel, tokens: Tensor) -> Tensor:
    """`encode_tokens` without computing the padding behind the longest text.

    Attention is causal and the embedding is read at the end-of-text token, so what follows it
    changes nothing but rounding. Names in templates fill a fifth of the usual context of 77.

    Args:
        clip: a model; a text tower other than open_clip's own is run over all of its context.
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
    """Run the text transformer over texts whose tokens are embedded already.

    Args:
        clip: a model that `reads_the_end`.
        x: `(T, L, width)` token embeddings without positions, L at most the context length.
        ends: `(T,)` int64 place of each text's end-of-text token.

    Returns:
        `(T, E)` rows of L2 norm 1, with gradients where `x` has them.
    """
    model, length = clip.clip, x.shape[1]
    x = model.transformer(
        x + model.positional_embedding[:length], attn_mask=model.attn_mask[:length, :length]
    )
    x = model.ln_final(x)[torch.arange(len(x), device=x.device), ends]
    return F.normalize(x @ model.text_projection, dim=-1)


def reads_the_end(clip: OpenClipModel) -> bool:
    """Whether texts are embedded by open_clip's own tower, at the end-of-text token alone."""
    model = clip.clip
    if not isinstance(model, open_clip.CLIP):
        return False
    causal = model.attn_mask is not None and model.text_pool_type == "argmax"
    return causal and isinstance(model.text_projection, Tensor)
