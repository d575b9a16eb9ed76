"""Training that starts from a class-embedding MaskFormer trained before.

A MaskFormer takes all of its weights; a network of pixel embeddings those of the backbone and, with
the same pixel decoder, of that. The masks which the MaskFormer was trained on have then had a part
in the result.
"""

from __future__ import annotations

from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.maskformer import OpenMaskFormer, load_maskformer
from ovseg.models.weight_files import listed

SHARED = "model.pixel_level_module."
"""Weights of backbone and pixel decoder begin with this, in networks of every head."""


def start_from(network: nn.Module, name: str) -> list[str]:
    """Put a MaskFormer's weights into a network, in place.

    Args:
        network: a class-embedding MaskFormer or a network of pixel embeddings.
        name: of the MaskFormer, see `ovseg.models.maskformer`.

    Returns:
        Names of the weights that were taken, sorted.

    Raises:
        OvsegError: it has a vocabulary of its own, or other dimensions.
    """
    source = load_maskformer(name)
    if not isinstance(source, OpenMaskFormer):
        raise OvsegError(f"training cannot start from {name}: it has no class embeddings")
    own = network.state_dict()
    given = {key: value for key, value in source.network.state_dict().items() if key in own}
    wrong = sorted(key for key, value in given.items() if own[key].shape != value.shape)
    lacking = sorted(key for key in own if key.startswith(SHARED) and key not in given)
    if wrong or lacking:
        raise OvsegError(
            f"training cannot start from {name}, whose dimensions are others:"
            f" {listed(wrong or lacking)}; name one of the recipe's architecture"
        )
    network.load_state_dict(given, strict=False)
    return sorted(given)
