"""Embed class names with prompt templates.

Every template is filled with the name and encoded, each embedding is scaled to length 1, and their
mean is scaled to length 1 again. Names are used verbatim, including commas and hyphens.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.config.registry import TEMPLATES, chosen
from ovseg.errors import OvsegError
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.clip.text_tower import encode_trimmed

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


def __getattr__(name: str) -> tuple[str, ...]:
    """Return `IMAGENET`, CLIP's 80 templates, from open_clip, which takes seconds to import."""
    if name != "IMAGENET":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _imagenet()


@functools.cache
def _imagenet() -> tuple[str, ...]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def fill_templates(names: Sequence[str], templates: str | Sequence[str]) -> list[list[str]]:
    """Put every name into every template.

    Args:
        names: K class names, stripped of outer blanks and otherwise verbatim.
        templates: a key of `ovseg.config.registry.TEMPLATES`, or T templates with one `{}` each.

    Returns:
        K lists of T prompts.

    Raises:
        OvsegError: for an unknown key, no template, a template without `{}`, or an empty name.
    """
    if isinstance(templates, str):
        templates = chosen(TEMPLATES, templates, setting="benchmarks.templates")
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise OvsegError(f"every prompt template needs one {{}} for the name, got {templates!r}")
    stripped = [name.strip() for name in names]
    if not all(stripped):
        raise OvsegError(f"class name {stripped.index('') + 1} of {len(stripped)} is empty")
    return [[template.replace("{}", name) for template in templates] for name in stripped]


BATCH_SIZE = 512  # prompts encoded at once


def text_embeddings(
    clip: OpenClipModel,
    names: Sequence[str],
    *,
    templates: str | Sequence[str],
) -> Tensor:
    """Embed class names by prompt ensembling, without gradients.

    Args:
        clip: the model; the result is on its device.
        names: K class names.
        templates: a key of `ovseg.config.registry.TEMPLATES`, or templates with one `{}` each.

    Returns:
        `(K, E)` float rows of L2 norm 1; `(0, E)` for no names.

    Raises:
        OvsegError: see `fill_templates`.
    """
    return mean_embeddings(clip, fill_templates(names, templates))


def mean_embeddings(clip: OpenClipModel, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Embed each list of prompts as the mean of its embeddings, without gradients.

    Args:
        clip: the model; the result is on its device.
        prompts: K lists of at least one prompt each, possibly of different lengths.

    Returns:
        `(K, E)` float rows of L2 norm 1; `(0, E)` for no lists.
    """
    if not prompts:
        return clip.encode_texts([])
    flat = [prompt for of_name in prompts for prompt in of_name]
    lengths = [len(of_name) for of_name in prompts]
    with torch.no_grad():
        tokens = clip.tokenizer(flat).to(clip.logit_scale.device)
        rows = torch.cat([encode_trimmed(clip, part) for part in torch.split(tokens, BATCH_SIZE)])
        means = [of_name.mean(dim=0) for of_name in torch.split(rows, lengths)]
        return F.normalize(torch.stack(means), dim=-1)
