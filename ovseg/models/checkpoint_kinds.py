"""Which published kind of weights a file holds, told by the names of its tensors.

What is none of them is refused with its keys listed. `ovseg.models.checkpoints` converts what was
recognised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ovseg.errors import OvsegError
from ovseg.models.official_clip import OVSEG_PREFIX
from ovseg.models.weight_files import listed

Kind = Literal["ovseg", "maskformer", "closed_maskformer", "clip"]

LABELS: dict[Kind, str] = {
    "ovseg": "OVSeg checkpoint, a MaskFormer and a CLIP",
    "maskformer": "open-vocabulary MaskFormer without a CLIP",
    "closed_maskformer": "MaskFormer with a vocabulary of its own",
    "clip": "CLIP",
}


def recognise(names: Iterable[str]) -> Kind:
    """What tensors of these names are.

    Raises:
        OvsegError: none of the known kinds.
    """
    known = set(names)
    if any(name.startswith("sem_seg_head.") for name in known):
        if any(name.startswith(OVSEG_PREFIX) for name in known):
            return "ovseg"
        closed = "sem_seg_head.predictor.class_embed.weight" in known
        return "closed_maskformer" if closed else "maskformer"
    if {"visual.conv1.weight", "token_embedding.weight"} <= known:
        return "clip"
    raise OvsegError(
        f"none of the weights that can be imported: its {len(known)} keys are"
        f" {listed(sorted(known))}; give an OVSeg checkpoint, a detectron2 MaskFormer, a CLIP of"
        " OpenAI or open_clip with a ViT, or the folder of a transformers MaskFormer"
    )
