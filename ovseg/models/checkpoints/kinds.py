"""The kinds of published checkpoints, and the record of what was imported."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ovseg.errors import OvsegError
from ovseg.files.access import check_replaceable
from ovseg.models.checkpoints.clip_names import OVSEG_PREFIX
from ovseg.models.weights.files import shorten_list

Kind = Literal["ovseg", "maskformer", "closed_maskformer", "clip"]
LABELS: dict[Kind, str] = {
    "ovseg": "OVSeg checkpoint, a MaskFormer and a CLIP",
    "maskformer": "open-vocabulary MaskFormer without a CLIP",
    "closed_maskformer": "closed-vocabulary MaskFormer",
    "clip": "CLIP",
}


def recognize(names: Iterable[str]) -> Kind:
    """Return the kind of checkpoint with these tensor names.

    Raises:
        OvsegError: if it is not one of the known kinds.
    """
    keys = set(names)
    if any(name.startswith("sem_seg_head.") for name in keys):
        if any(name.startswith(OVSEG_PREFIX) for name in keys):
            return "ovseg"
        closed = "sem_seg_head.predictor.class_embed.weight" in keys
        return "closed_maskformer" if closed else "maskformer"
    if {"visual.conv1.weight", "token_embedding.weight"} <= keys:
        return "clip"
    raise OvsegError(
        f"not weights that can be imported: its {len(keys)} keys are"
        f" {shorten_list(sorted(keys))}; give an OVSeg checkpoint, a detectron2 MaskFormer, a CLIP"
        " of OpenAI or open_clip with a ViT, or the folder of a transformers MaskFormer"
    )


RECORD_FILE = "import.json"
MADE_BY = "ovseg import-checkpoint"
"""The marker in the folder's listing (`ovseg.files.access.list_files`)."""


class ImportRecord(BaseModel):
    """The record of an import: the content of `import.json`."""

    model_config = ConfigDict(frozen=True)

    source: str
    """Name of the file or folder."""
    sha256: str
    kind: str
    layout: str
    tensors: int
    """Number of imported tensors."""
    dropped: dict[str, str]
    """Reasons for dropped tensors, by key."""
    notes: tuple[str, ...] = ()
    """Assumptions about what the file does not say, and requested changes."""
    stored_as: dict[str, str] = {}
    """Types of tensors that are not float32 in the file, by published name; ours are float32."""
    no_object_weight: float | None = None
    """Last entry of the dropped class weights of the loss; the others are 1."""
    versions: dict[str, str] = {}

    @classmethod
    def read(cls, folder: Path) -> ImportRecord | None:
        """Read the record of an imported folder; None for any other folder.

        Raises:
            OvsegError: if the record cannot be read.
        """
        path = folder / RECORD_FILE
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError, ValidationError) as error:
            raise OvsegError(f"{path} is damaged: import the checkpoint again") from error


def check_import_target(source: Path, out: Path) -> None:
    """Reject a missing source, and a folder that an import must not replace.

    Raises:
        OvsegError: see `ovseg.files.access.check_replaceable`; or if one is inside the other.
    """
    if not source.exists():
        raise OvsegError(f"{source} does not exist: name a weights file or a MaskFormer's folder")
    check_replaceable(out, MADE_BY)
    inner, outer = source.resolve(), out.resolve()
    if outer in inner.parents or inner in outer.parents or inner == outer:
        raise OvsegError(
            f"one of --out {out} and {source} is inside the other: name another folder"
        )
