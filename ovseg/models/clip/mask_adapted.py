"""Mask-adapted CLIP: open_clip's own model with mask prompts added around it, not a fork of it.

A region cropped along its mask has blank patches, which CLIP has never seen. Mask prompts (OVSeg,
CVPR 2023, section 3.3) replace the tokens of patches that are entirely background with learned
ones, at the input and before the next blocks. Two other kinds can be used in addition or instead:
pixel prompts (`ovseg.models.clip.pixel_prompts`) and visual prompts
(`ovseg.models.clip.prompted_tower`). `ovseg.models.clip.load` loads and saves them all.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.errors import OvsegError
from ovseg.models.clip.open_clip_model import OpenClipModel, Tokenizer
from ovseg.models.clip.pixel_prompts import PIXEL_PREFIX, PixelPrompts
from ovseg.models.clip.prompted_tower import prompted_features

PROMPT_KEY = "visual.mask_embedding"  # the name published checkpoints use
VISUAL_KEY = "visual_prompts"
POSITION_KEY = "visual.positional_embedding"


def is_prompt(name: str) -> bool:
    """Whether a tensor of a checkpoint belongs to prompts of any kind rather than to CLIP."""
    return name in (PROMPT_KEY, VISUAL_KEY) or name.startswith(PIXEL_PREFIX)


def resized_patches(tokens: Tensor, grid: int) -> Tensor:
    """Resize values of the patches of a square grid to another grid.

    Bicubic and antialiased, as open_clip resizes its positional embedding; mask prompts correspond
    to patches and are resized in the same way.

    Args:
        tokens: `(..., P, width)` float, row-major, P a square number.
        grid: patches along one side of the new grid.

    Returns:
        `(..., grid * grid, width)`; the input tokens if the grid is the same.

    Raises:
        ValueError: if P is not a square number.
    """
    *leading, patches, width = tokens.shape
    side = math.isqrt(patches)
    if side * side != patches:
        raise ValueError(f"{patches} patches do not form a square grid")
    if side == grid:
        return tokens
    grids_nchw = tokens.reshape(-1, side, side, width).permute(0, 3, 1, 2).float()
    resized = F.interpolate(
        grids_nchw, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.permute(0, 2, 3, 1).reshape(*leading, grid * grid, width).to(tokens.dtype)


class MaskAdaptedCLIP(OpenClipModel):
    """A CLIP of open_clip plus mask prompts; without prompts, bit-identical to open_clip's model.

    The forward pass keeps no state and installs no hooks, so threads may share one instance.

    Args:
        clip: open_clip model whose visual tower is open_clip's `VisionTransformer`.
        tokenizer: texts -> `(T, context)` int64 token ids; texts over the context are truncated,
            with the end-of-text id last (open_clip's behavior; the official implementation raises
            instead).
        prompt_depth: number of layers with prompts: the input and after blocks 1..depth-1; or 0.
        model_cfg: open_clip's configuration of the model, needed by `save_clip`.
        vocabulary: BPE file of the tokenizer if it is not open_clip's own, copied by `save_clip`.

    Raises:
        OvsegError: if the tower is not a plain square ViT, or the depth exceeds its blocks.
    """

    mask_prompts: nn.Parameter | None
    pixel_prompts: PixelPrompts | None
    visual_prompts: nn.Parameter | None

    def __init__(
        self,
        clip: nn.Module,
        *,
        tokenizer: Tokenizer,
        prompt_depth: int = 0,
        model_cfg: Mapping[str, Any] | None = None,
        vocabulary: Path | None = None,
    ) -> None:
        from open_clip.transformer import VisionTransformer

        visual: Any = clip.visual
        if not isinstance(visual, VisionTransformer):
            raise OvsegError(
                f"mask prompts need open_clip's VisionTransformer, but this model has "
                f"{type(visual).__name__}: choose a ViT architecture"
            )
        if not isinstance(visual.patch_dropout, nn.Identity):
            raise OvsegError("the CLIP drops patches at random: set patch_dropout to 0")
        super().__init__(clip, tokenizer=tokenizer, model_cfg=model_cfg, vocabulary=vocabulary)
        self.mask_prompts = self.pixel_prompts = self.visual_prompts = None
        self.draw_prompts(prompt_depth)

    def draw_prompts(self, depth: int, *, init: str = "normal") -> None:
        """Replace the mask prompts with new ones; depth 0 removes them.

        Args:
            depth: number of layers with prompts, at most the number of blocks.
            init: `"normal"` for N(0, 0.02), or `"zeros"`.

        Raises:
            OvsegError: if the depth exceeds the tower's blocks.
        """
        blocks = len(self.clip.visual.transformer.resblocks)
        if not 0 <= depth <= blocks:
            raise OvsegError(f"prompt_depth {depth} is not in 0..{blocks}, the number of blocks")
        if init not in ("normal", "zeros"):
            raise ValueError(f"init must be 'normal' or 'zeros', not {init!r}")
        self.mask_prompts = None
        if depth:
            width = self.clip.visual.conv1.out_channels
            prompts = torch.zeros(depth, self.grid**2, width)
            if init == "normal":
                nn.init.normal_(prompts, std=0.02)
            self.mask_prompts = nn.Parameter(prompts.to(self.logit_scale.device))

    def draw_visual_prompts(self, depth: int, count: int) -> None:
        """Replace the visual prompts with new ones from N(0, 0.02); depth 0 removes them.

        Args:
            depth: number of blocks with prompts, from the first.
            count: tokens per block.

        Raises:
            OvsegError: if the depth exceeds the tower's blocks.
        """
        blocks = len(self.clip.visual.transformer.resblocks)
        if not 0 <= depth <= blocks:
            raise OvsegError(f"visual_depth {depth} is not in 0..{blocks}, the number of blocks")
        self.visual_prompts = None
        if depth:
            prompts = torch.empty(depth, count, self.clip.visual.conv1.out_channels)
            nn.init.normal_(prompts, std=0.02)
            self.visual_prompts = nn.Parameter(prompts.to(self.logit_scale.device))

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        return int(self.clip.visual.patch_size[0])

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return int(self.clip.visual.grid_size[0])

    @property
    def prompt_depth(self) -> int:
        """Number of layers with mask prompts; 0 if there are none."""
        return 0 if self.mask_prompts is None else int(self.mask_prompts.shape[0])

    def encode_regions(
        self, pixels_nchw: Tensor, masks_nhw: Tensor | None = None, *, prompts: bool = True
    ) -> Tensor:
        """Embed regions.

        Args:
            pixels_nchw: `(N, 3, S, S)` float, normalized; N may be 0.
            masks_nhw: `(N, S, S)` bool or float >= 0, foreground above zero; None for whole crops,
                which mask prompts and pixel prompts do not change.
            prompts: False ignores masks and prompts of every kind.

        Returns:
            `(N, E)` embeddings of L2 norm 1.

        Raises:
            ValueError: if masks are needed but do not fit the pixels.
        """
        if pixels_nchw.shape[0] == 0:
            return pixels_nchw.new_zeros((0, self.embed_dim))
        tokens = self.mask_prompts if prompts and masks_nhw is not None else None
        visual_prompts = self.visual_prompts if prompts else None
        pixel_prompts = self.pixel_prompts if prompts else None
        if masks_nhw is not None and (tokens is not None or pixel_prompts is not None):
            if masks_nhw.shape != (pixels_nchw.shape[0], *pixels_nchw.shape[2:]):
                raise ValueError(
                    f"masks {tuple(masks_nhw.shape)} do not fit pixels {tuple(pixels_nchw.shape)}"
                )
            if pixel_prompts is not None:
                pixels_nchw = pixel_prompts(pixels_nchw, masks_nhw)
        if tokens is None and visual_prompts is None and not torch.is_grad_enabled():
            encoded = self.clip.visual(pixels_nchw)
            features = encoded[0] if isinstance(encoded, tuple) else encoded
        else:
            features = prompted_features(
                self.clip.visual,
                pixels_nchw,
                masks_nhw,
                mask_prompts=tokens,
                visual_prompts=visual_prompts,
            )
        return F.normalize(features, dim=-1)

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return the tensors under open_clip's names, and any prompts.

        Mask prompts are `visual.mask_embedding`, visual prompts `visual_prompts`, pixel prompts
        begin with `pixel_prompts.`.
        """
        state = super().checkpoint_state()
        if self.mask_prompts is not None:
            state[PROMPT_KEY] = self.mask_prompts.detach()
        if self.visual_prompts is not None:
            state[VISUAL_KEY] = self.visual_prompts.detach()
        if self.pixel_prompts is not None:
            own = self.pixel_prompts.state_dict()
            state |= {PIXEL_PREFIX + name: tensor for name, tensor in own.items()}
        return state

    def load_checkpoint_state(self, state: Mapping[str, Tensor], *, prompts: bool = True) -> None:
        """Load tensors named as in `checkpoint_state`.

        Weights of another input size fit too: `resized_patches` resizes the positional embedding
        and the mask prompts to this model's grid; prompts shared by all patches stay; the image of
        pixel prompts is resized.

        Args:
            state: all tensors of the CLIP, with or without prompts.
            prompts: False ignores prompts in `state`.

        Raises:
            OvsegError: if names or shapes differ from this model's.
        """
        towers = {name: tensor for name, tensor in state.items() if not is_prompt(name)}
        positions, patches = towers.get(POSITION_KEY), self.grid**2
        if positions is not None and positions.ndim == 2 and _is_square(len(positions) - 1):
            patches = len(positions) - 1
            resized = resized_patches(positions[1:], self.grid)
            towers[POSITION_KEY] = torch.cat([positions[:1], resized])
        super().load_checkpoint_state(towers)
        if prompts and PROMPT_KEY in state:
            self._adopt_prompts(state[PROMPT_KEY], patches)
        if prompts and VISUAL_KEY in state:
            visual_prompts = state[VISUAL_KEY]
            if (
                visual_prompts.ndim != 3
                or visual_prompts.shape[2] != self.clip.visual.conv1.out_channels
            ):
                raise OvsegError(
                    f"visual prompts {tuple(visual_prompts.shape)} do not fit this CLIP"
                )
            self.draw_visual_prompts(*visual_prompts.shape[:2])
            if self.visual_prompts is None or self.visual_prompts.shape != visual_prompts.shape:
                raise OvsegError(
                    f"visual prompts {tuple(visual_prompts.shape)} do not fit this CLIP"
                )
            self.visual_prompts.data.copy_(visual_prompts)
        pixels = {k.removeprefix(PIXEL_PREFIX): v for k, v in state.items() if PIXEL_PREFIX in k}
        if prompts and pixels:
            device = self.logit_scale.device
            self.pixel_prompts = PixelPrompts.of_state(pixels, self.image_size).to(device)

    def _adopt_prompts(self, prompts: Tensor, patches: int) -> None:
        """Load mask prompts of weights with this number of patches."""
        width = self.clip.visual.conv1.out_channels
        fits = prompts.ndim == 3 and prompts.shape[2] == width
        if not fits or prompts.shape[1] not in (1, patches):
            raise OvsegError(
                f"mask prompts {tuple(prompts.shape)} do not fit this CLIP: "
                f"(depth, {patches} or 1, {width}) expected"
            )
        if prompts.shape[1] > 1:
            prompts = resized_patches(prompts, self.grid)
        self.mask_prompts = nn.Parameter(prompts.detach().clone().to(self.logit_scale))


def _is_square(patches: int) -> bool:
    return patches > 0 and math.isqrt(patches) ** 2 == patches
