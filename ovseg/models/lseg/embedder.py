"""Pixel embeddings of an image from a trained network, and their uses.

    embedder = load_pixels("runs/lseg", device="cpu")
    features = embedder.embed(image)
    maps = features.cosines(texts, size=image.shape[:2])        # each class's score of each pixel
    regions, valid = features.pooled(masks)                     # one embedding per mask

The networks are trained by `ovseg.training.segmentation.trainer`; their folders have the same files
as a MaskFormer's (`ovseg.models.weights.folders`), with a different `model_type`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.devices import resolve_device
from ovseg.models.lseg.network import PixelEmbeddingNetwork
from ovseg.models.maskformer.open_vocabulary import Architecture
from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSettings, InputSize, pad_batch
from ovseg.models.weights.folders import (
    CONFIG_FILE,
    Stamp,
    folder_stamp,
    read_config,
    read_network,
    write_network,
)

MODEL_TYPE = "ovseg-pixels"
MASK_BUDGET = 2**26  # numbers of masks, original or resized, held at once: 256 MiB of float32


@dataclass(frozen=True, kw_only=True)
class PixelFeatures:
    """The embeddings of one image.

    Attributes:
        embeddings: (E, h, w) float32, L2 norm 1, over the padded image.
        padded: (H, W) of the padded image: h and w times the stride.
        resized: (H', W') of the image in the upper left corner of it.
    """

    embeddings: Tensor
    padded: tuple[int, int]
    resized: tuple[int, int]

    def cosines(self, texts_te: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the cosines of texts and pixels; as in LSeg, scores are enlarged, not embeddings.

        Args:
            texts_te: (T, E) float, L2 norm 1.
            size: (H, W) of the result.

        Returns:
            (T, *size) float32 in -1..1, bilinear.
        """
        maps = torch.einsum("te,ehw->thw", texts_te.to(self.embeddings), self.embeddings)[None]
        maps = F.interpolate(maps, size=self.padded, mode="bilinear", align_corners=False)
        maps = maps[..., : self.resized[0], : self.resized[1]]
        if size != self.resized:
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        return maps[0]

    def pooled(self, masks_qhw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean embedding under each mask, normalized to 1.

        A pixel has the embedding of its cell of the map.

        Args:
            masks_qhw: (Q, H, W) bool at any one size; Q may be 0.

        Returns:
            (V, E) float32 of the non-empty masks, in order, and (Q,) bool that marks them.
        """
        valid = masks_qhw.flatten(1).any(dim=1)
        masks = masks_qhw[valid]
        weights = [self.embeddings.new_zeros(0, *self.embeddings.shape[1:])]
        height, width = masks_qhw.shape[1:]
        step = max(1, MASK_BUDGET // max(height * width, self.padded[0] * self.padded[1]))
        weights += [self._cells(part) for part in torch.split(masks, step) if len(part)]
        sums = torch.einsum("qhw,ehw->qe", torch.cat(weights), self.embeddings)
        return F.normalize(sums, dim=1), valid

    def _cells(self, masks_qhw: Tensor) -> Tensor:
        """Return (Q, h, w), the share of each cell of the map that a mask covers."""
        shares = masks_qhw.to(self.embeddings)[None]
        if shares.shape[-2:] != self.resized:
            shares = F.interpolate(shares, size=self.resized, mode="area")
        below, right = (whole - side for whole, side in zip(self.padded, self.resized))
        shares = F.pad(shares, (0, right, 0, below))
        return F.avg_pool2d(shares, self.padded[0] // self.embeddings.shape[1])[0]


class PixelEmbedder:
    """A trained pixel embedding network.

    Args:
        network: the module; put into evaluation mode.
        class_names: names of the K classes it was trained on.
        inputs: how pixels are prepared.
        digest: content hash of weights and settings.
        device: where it runs.
    """

    def __init__(
        self,
        network: PixelEmbeddingNetwork,
        *,
        class_names: Sequence[str],
        inputs: InputSettings,
        digest: str,
        device: torch.device,
    ) -> None:
        self.network = network.eval().to(device)
        self.class_names = tuple(class_names)
        self.inputs = inputs
        self.digest = digest
        self.device = device

    @property
    def width(self) -> int:
        """Width E of the text embeddings it was trained with."""
        return self.network.architecture.embedding_dim

    @torch.inference_mode()
    def embed(self, image: ImageArray, *, size: InputSize = OWN_SIZE) -> PixelFeatures:
        """Embed the pixels of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            size: overrides the network's own input size.
        """
        resized = size.resize(image, self.inputs)
        pixels = pad_batch([resized], self.inputs.mean, self.inputs.std, self.device)
        return PixelFeatures(
            embeddings=F.normalize(self.network(pixels)[0].float(), dim=0),
            padded=(pixels.shape[-2], pixels.shape[-1]),
            resized=(resized.shape[0], resized.shape[1]),
        )

    def check_texts(self, texts_te: Tensor) -> None:
        """Raise `OvsegError` if texts have another width."""
        if texts_te.shape[1] != self.width:
            raise OvsegError(
                f"the pixel embeddings have {self.width} numbers, CLIP's texts"
                f" {texts_te.shape[1]}: use the CLIP the network was trained with"
            )


class PixelPoolingEmbedder:
    """Regions embedded by the mean of their pixels' embeddings: LSeg+ with proposals.

    Args:
        embedder: embeds the pixels of images at its network's own size.
    """

    def __init__(self, embedder: PixelEmbedder) -> None:
        self.embedder = embedder

    @torch.no_grad()
    def embed(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """See `ovseg.models.regions.embedders.RegionEmbedder`."""
        masks = masks_qhw.bool() if threshold is None else masks_qhw > threshold
        regions, valid = self.embedder.embed(image).pooled(masks.to(self.embedder.device))
        return regions.to(masks_qhw.device), valid.to(masks_qhw.device)


# --------------------------------------------------------------------------------------
# Folders


def save_pixel_network(
    network: PixelEmbeddingNetwork,
    folder: Path,
    *,
    inputs: InputSettings,
    class_names: Sequence[str],
    text_embeddings: Tensor,
    half: bool = False,
) -> None:
    """Write the folder that `load_pixels` reads; arguments as for `save_maskformer`."""
    config = {
        "model_type": MODEL_TYPE,
        "head": network.head,
        "temperature": network.temperature,
        "architecture": network.architecture.model_dump(mode="json"),
        "inputs": inputs.model_dump(mode="json"),
        "class_names": list(class_names),
    }
    write_network(network, folder, config, text_embeddings=text_embeddings, half=half)


def load_pixels(name: str | Path, device: str = "cpu") -> PixelEmbedder:
    """Load a pixel embedding network from its folder, once per process, device and content.

    Args:
        name: a folder written by `save_pixel_network`.
        device: a torch device, or `auto` for the fastest available.

    Raises:
        OvsegError: if there is no such network.
    """
    folder = Path(name).expanduser()
    return _load(folder, resolve_device(device), folder_stamp(folder))


def pixels_digest(name: str | Path) -> str:
    """Return the hash (16 hex digits) of a network's weights and settings; raises `OvsegError`."""
    return load_pixels(name).digest


@lru_cache(maxsize=2)
def _load(folder: Path, device: str, stamp: Stamp) -> PixelEmbedder:
    # the stamp is a cache key: a rewritten folder is read again
    if not (folder / CONFIG_FILE).is_file():
        raise OvsegError(
            f"{folder} has no pixel embedding network; train one with python -m"
            " flows.train_segmentation --recipe lseg, and name its folder in benchmarks.pixels"
        )
    config = read_config(folder)
    if config.get("model_type") != MODEL_TYPE:
        raise OvsegError(
            f"{folder} is a {config.get('model_type')} model, not a pixel embedding network;"
            " train one with python -m flows.train_segmentation --recipe lseg"
        )

    def make() -> PixelEmbeddingNetwork:
        return PixelEmbeddingNetwork(
            Architecture(**config["architecture"]),
            head=config["head"],
            temperature=config["temperature"],
        )

    stored = read_network(folder, config, make, kind="network")
    return PixelEmbedder(
        stored.network,
        class_names=stored.class_names,
        inputs=stored.inputs,
        digest=stored.digest,
        device=torch.device(device),
    )
