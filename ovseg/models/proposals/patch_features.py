"""Features of an image's patches, compared by cosine: from a CLIP or another ViT.

    features = load_patch_features("storybook").of(image)   # (h, w, C)

A name is a CLIP of `ovseg.models.clip.load`, `timm/NAME` (a ViT such as
`timm/vit_small_patch16_224.dino`, or `timm/local-dir:FOLDER`), or a ViT of `transformers` (a
folder, or a hub id such as `facebook/dinov2-small`). An image is resized to whole patches, the
longer side to `PATCHES` of them, and positions are interpolated.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ovseg.config.model_names import clip_folder
from ovseg.errors import OvsegError
from ovseg.models.clip.load import clip_digest, shared_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import resolve_device
from ovseg.models.preprocessing import ImageArray
from ovseg.models.weights.files import check_finite
from ovseg.models.weights.settings_files import check_settings, check_transformers, read_settings

PATCHES = 32
"""Patches along the longer side: a graph of all patches has at most 1024 nodes."""
TIMM = "timm/"
LOCAL_DIR = "local-dir:"
"""timm's prefix for a folder."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class PatchFeatures(ABC):
    """A network that embeds patches.

    Args:
        digest: digest of its weights and its processing.
        patch: side of a patch in pixels.
        mean: mean of the pixels, on a 0..1 scale, RGB.
        std: standard deviation of the pixels, likewise.
        device: where it runs.
    """

    def __init__(
        self,
        digest: str,
        patch: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: str,
    ) -> None:
        self.digest, self.patch, self.device = digest, patch, device
        self._mean, self._std = (torch.tensor(value, device=device) for value in (mean, std))

    @abstractmethod
    def tokens(self, pixels_nchw: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return (h * w, C) features of one prepared image (1, 3, h * patch, w * patch)."""

    @torch.inference_mode()
    def of(self, image: ImageArray) -> Tensor:
        """Return (h, w, C) float32 features of length 1 for an image (H, W, 3) uint8 RGB."""
        height, width = image.shape[:2]
        scale = PATCHES / max(height, width)
        grid = max(1, round(height * scale)), max(1, round(width * scale))
        size = (grid[1] * self.patch, grid[0] * self.patch)
        resized = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        pixels = torch.from_numpy(resized).to(self.device).float() / 255
        pixels = ((pixels - self._mean) / self._std).permute(2, 0, 1)[None]
        return F.normalize(self.tokens(pixels, grid).float(), dim=-1).view(*grid, -1)


class ClipPatches(PatchFeatures):
    """The keys of a CLIP's last attention layer, which separate objects best (TokenCut).

    Args:
        clip: a CLIP whose image tower is a plain vision transformer of open_clip.
        digest: digest of its weights.
        device: where it runs.

    Raises:
        OvsegError: if the image tower is of another kind.
    """

    def __init__(self, clip: MaskAdaptedCLIP, digest: str, device: str) -> None:
        from open_clip.transformer import VisionTransformer

        visual: Any = clip.clip.visual
        if not isinstance(visual, VisionTransformer):
            raise OvsegError(
                "patch features need a CLIP whose image tower is a vision transformer, such as"
                f" storybook or ViT-B-16/openai, not a {type(visual).__name__}"
            )
        super().__init__(digest, int(visual.patch_size[0]), clip.pixel_mean, clip.pixel_std, device)
        self.visual = visual

    def tokens(self, pixels_nchw: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `PatchFeatures`; written out because open_clip's forward takes only one size."""
        visual = self.visual
        x = visual.conv1(pixels_nchw).flatten(2).permute(0, 2, 1)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(1, 1, -1), x], dim=1)
        x = visual.ln_pre(x + _positions(visual.positional_embedding, visual.grid_size, grid))
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            x = (
                block(x)
                if visual.transformer.batch_first
                else block(x.transpose(0, 1)).transpose(0, 1)
            )
        width = x.shape[-1]
        attention = last.attn
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        keys = F.linear(last.ln_1(x), weight[width : 2 * width], bias[width : 2 * width])
        return keys[0, 1:]


def _positions(embedding: Tensor, own: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Interpolate positional embeddings to another grid, (1 + h * w, D)."""
    first, patches = embedding[:1], embedding[1:]
    if tuple(own) == grid:
        return embedding
    square = patches.T.reshape(1, -1, *own)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([first, resized.flatten(2)[0].T])


class TimmPatches(PatchFeatures):
    """The last layer's patch tokens of a vision transformer of timm.

    Args:
        name: timm's name of the model.
        device: where it runs.

    Raises:
        OvsegError: if there is no such model, no weights or no patch tokens.
    """

    def __init__(self, name: str, device: str) -> None:
        import timm  # heavy, and few runs need it

        advice = "name a ViT of timm, as in timm/vit_small_patch16_224.dino"
        if name.startswith(LOCAL_DIR):
            path = Path(name.removeprefix(LOCAL_DIR)) / "config.json"
            check_settings(read_settings(path), path)
        try:
            model = timm.create_model(name, pretrained=True, num_classes=0, dynamic_img_size=True)
        except Exception as error:  # timm, huggingface_hub and urllib raise their own
            raise OvsegError(f"timm/{name} cannot be loaded ({_short(error)}); {advice}") from error
        check_finite(model.state_dict(), f"timm/{name}")
        if not hasattr(model, "patch_embed") or not hasattr(model, "num_prefix_tokens"):
            raise OvsegError(f"timm/{name} has no patch tokens; {advice}")
        settings = {key: model.pretrained_cfg.get(key) for key in ("architecture", "mean", "std")}
        super().__init__(
            _weights_digest(settings, model.state_dict()),
            int(model.patch_embed.patch_size[0]),
            tuple(settings["mean"]),
            tuple(settings["std"]),
            device,
        )
        self.model = model.eval().requires_grad_(False).to(device)

    def tokens(self, pixels_nchw: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `PatchFeatures`."""
        tokens: Tensor = self.model.forward_features(pixels_nchw)[0]
        return tokens[self.model.num_prefix_tokens :]


class TransformersPatches(PatchFeatures):
    """The last layer's patch tokens of a vision transformer of `transformers`.

    Args:
        name: folder or hub id.
        device: where it runs.

    Raises:
        OvsegError: if there is no such model, or it has no patch tokens.
    """

    def __init__(self, name: str, device: str) -> None:
        from transformers import AutoModel

        advice = "name a CLIP (storybook, a folder, ARCH/pretrained), timm/NAME or a ViT's hub id"
        try:
            check_transformers(name)
            model = AutoModel.from_pretrained(
                name,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True if Path(name).is_dir() else None,
            )
        except OvsegError:
            raise
        except Exception as error:  # OSError, ValueError, KeyError for missing parts
            raise OvsegError(f"{name!r} cannot be loaded ({_short(error)}); {advice}") from error
        check_finite(model.state_dict(), name)
        config = model.config
        if not isinstance(getattr(config, "patch_size", None), int):
            raise OvsegError(f"{name} is a {config.model_type}, which has no patches; {advice}")
        settings = {key: value for key, value in config.to_dict().items() if key[0] != "_"}
        settings.pop("transformers_version", None)
        super().__init__(
            _weights_digest(settings, model.state_dict()), config.patch_size, *IMAGENET, device
        )
        self.model = model.eval().requires_grad_(False).to(device)
        self.interpolates = {"interpolate_pos_encoding": True} if config.model_type == "vit" else {}

    def tokens(self, pixels_nchw: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `PatchFeatures`; class and register tokens come before the patches."""
        states: Tensor = self.model(pixels_nchw, **self.interpolates).last_hidden_state
        return states[0, -grid[0] * grid[1] :]


def patches_of(weights: str) -> str:
    """Return the patch network's name for weights; for a storybook MaskFormer, its world's CLIP."""
    return "storybook" if re.fullmatch(r"storybook(-\d+)?", weights) else weights


def load_patch_features(name: str, device: str = "cpu") -> PatchFeatures:
    """Load a network that embeds patches by its name, once per process, device and content.

    Args:
        name: see the module's docstring.
        device: a torch device, or `auto`.

    Raises:
        OvsegError: if there is no such network, or it has no patches.
    """
    device = resolve_device(device)
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM), device)
    import open_clip

    if clip_folder_or_none(name) or name.partition("/")[0] in open_clip.list_models():
        digest = clip_digest(name)
        clip = shared_clip(name, device=device)
        if not isinstance(clip, MaskAdaptedCLIP):
            raise OvsegError(f"{name} is convolutional and has no patches: name a ViT instead")
        return ClipPatches(clip, digest[:16], device)
    return _transformers(name, device, _stamp(Path(name)))


def clip_folder_or_none(name: str) -> Path | None:
    """Return a CLIP's folder; None for anything else, including another network's folder."""
    folder = Path(name).expanduser()
    if (
        folder.is_dir()
        and not (folder / "open_clip_config.json").is_file()
        and (folder / "config.json").is_file()
    ):
        return None
    return clip_folder(name)


@lru_cache(maxsize=2)
def _timm(name: str, device: str) -> PatchFeatures:
    return TimmPatches(name, device)


@lru_cache(maxsize=2)
def _transformers(name: str, device: str, stamp: tuple[tuple[str, int], ...]) -> PatchFeatures:
    # the stamp is a cache key: a rewritten folder is read again
    return TransformersPatches(name, device)


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    if not folder.is_dir():
        return ()
    return tuple((file.name, file.stat().st_mtime_ns) for file in sorted(folder.iterdir()))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _weights_digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        sha.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
