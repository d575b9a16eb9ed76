"""Class scores from the nearest mined regions: what people called similar regions.

The pair table is a memory of regions with nouns. The nearest regions in CLIP's space each vote for
the classes of their noun, and the vote is combined geometrically with CLIP's own scores (retrieval
over masked segments as in RetCLIP and CorrCLIPv2). No weight is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.texts.class_texts import ClassTexts
from ovseg.models.weights.files import check_finite, read_safetensors

REGIONS_FILE = "regions.safetensors"
NOUN_SEPARATOR = "\n"
SHARPNESS = 50.0
"""Scale of the neighbors' weights, the softmax of their scaled cosines."""
ROWS_AT_ONCE = 2**17
"""Rows of the memory compared at once, so that a GPU can hold the cosines."""


@dataclass(frozen=True, kw_only=True)
class RegionMemory:
    """Mined regions and their nouns.

    Attributes:
        regions_ne: `(N, E)` float, L2 norm 1; N may be 0.
        nouns_n: `(N,)` int64, index of each region's noun.
        nouns: the M distinct nouns.
    """

    regions_ne: Tensor
    nouns_n: Tensor
    nouns: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write the memory into a folder, the embeddings as float16."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"regions": self.regions_ne.half().cpu(), "nouns": self.nouns_n.int().cpu()}
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            folder / REGIONS_FILE,
            metadata={"nouns": NOUN_SEPARATOR.join(self.nouns)},
        )

    @staticmethod
    def load(folder: Path, device: str = "cpu") -> RegionMemory:
        """Read what `save` wrote.

        Raises:
            OvsegError: if there is no memory, or it is damaged.
        """
        try:
            tensors = read_safetensors(folder / REGIONS_FILE)
            check_finite(tensors, folder / REGIONS_FILE)
            with safe_open(folder / REGIONS_FILE, framework="pt") as stored:
                names = (stored.metadata() or {}).get("nouns", "")
            regions, nouns = (tensors[name].to(device) for name in ("regions", "nouns"))
        except (KeyError, OSError, OvsegError, SafetensorError) as error:
            raise OvsegError(f"{folder} has no regions to retrieve ({error})") from error
        return RegionMemory(
            regions_ne=F.normalize(regions.float(), dim=-1),
            nouns_n=nouns.long(),
            nouns=tuple(names.split(NOUN_SEPARATOR)) if names else (),
        )


class Retrieval:
    """Votes of the nearest regions of a memory for the texts of a vocabulary.

    Args:
        memory: regions embedded in the same way as those they are compared with.
        noun_texts_me: `(M, E)` embeddings of its nouns, L2 norm 1.
        texts: texts of the classes; votes have the same columns.
        neighbors: number of regions that vote.
        weight: weight of the vote in the geometric mean with CLIP's own scores, 0..1.

    Raises:
        OvsegError: if the memory is empty, or belongs to another CLIP.
    """

    def __init__(
        self,
        memory: RegionMemory,
        noun_texts_me: Tensor,
        texts: ClassTexts,
        *,
        neighbors: int,
        weight: float,
    ) -> None:
        if not len(memory.regions_ne):
            raise OvsegError("there are no regions to retrieve: mine pairs, or set the weight to 0")
        if memory.regions_ne.shape[1] != texts.embeddings.shape[1]:
            raise OvsegError(
                f"the regions to retrieve have {memory.regions_ne.shape[1]} numbers, the texts"
                f" {texts.embeddings.shape[1]}: embed them with the CLIP that is benchmarked"
            )
        self.memory, self.weight = memory, weight
        self.neighbors = min(neighbors, len(memory.regions_ne))
        # CLIP's texts decide how much a noun means a class; an equal name gets nearly all of it
        self.meaning_mc = texts.classify(noun_texts_me)

    def vote(self, features_ve: Tensor) -> Tensor:
        """Return the neighbors' votes for classes.

        Args:
            features_ve: `(V, E)` embeddings of regions, L2 norm 1.

        Returns:
            `(V, C)`, rows that sum to 1.
        """
        cosines, rows = self._nearest(features_ve)
        votes_vn = (SHARPNESS * cosines).softmax(-1)
        return torch.einsum("vn,vnc->vc", votes_vn, self.meaning_mc[self.memory.nouns_n[rows]])

    def join(self, p_clip_vc: Tensor, features_ve: Tensor) -> Tensor:
        """Combine CLIP's scores and the vote: `p_clip^(1 - weight) * vote^weight`, normalized."""
        joined = p_clip_vc ** (1 - self.weight) * self.vote(features_ve) ** self.weight
        return joined / joined.sum(-1, keepdim=True).clamp_min(torch.finfo(joined.dtype).tiny)

    def _nearest(self, features_ve: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines `(V, n)` and rows `(V, n)` of the nearest regions, nearest first."""
        best = features_ve.new_zeros((len(features_ve), 0))
        rows = torch.zeros((len(features_ve), 0), dtype=torch.int64, device=features_ve.device)
        for start in range(0, len(self.memory.regions_ne), ROWS_AT_ONCE):
            part = self.memory.regions_ne[start : start + ROWS_AT_ONCE]
            cosines = features_ve @ part.T
            top = cosines.topk(min(self.neighbors, len(part)), dim=1)
            best = torch.cat([best, top.values], dim=1)
            rows = torch.cat([rows, top.indices + start], dim=1)
            nearest = best.topk(min(self.neighbors, best.shape[1]), dim=1)
            best, rows = nearest.values, rows.gather(1, nearest.indices)
        return best, rows
