"""Mask prompts in pixels: a learned image laid over a region, and its background attenuated.

    I' = I + alpha * M * P          inside the mask
    I' = beta * I                   outside of it

with a prompt image P, a strength alpha and a background beta below 1, all on CLIP's normalized
pixels. There 0 is CLIP's mean color, so attenuation leads to the paper's mean fill (beta 0) and not
to black, which is a strong color to CLIP (about -1.8 once normalized). The attenuated region
styles, `ovseg.models.regions.crops.faded`, fade in the same way. CLIP itself is unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.errors import OvsegError

PIXEL_PREFIX = "pixel_prompts."  # prefix of its tensors in a checkpoint


class PixelPrompts(nn.Module):
    """A prompt image, its strength and the share of the background that remains.

    The image starts at 0, so a region is at first unchanged apart from the background.

    Args:
        size: side S of CLIP's square input.
        strength: alpha, fixed: with an optimizer whose steps are as large as its learning rate,
            it is a factor on that rate, in units of the pixels' standard deviation.
        background: beta in 0..1; if learned, its initial value, strictly between 0 and 1.
        learn_background: whether beta is a parameter, the sigmoid of a logit.

    Raises:
        OvsegError: if a learned beta starts from 0 or 1, where a sigmoid has no slope.

    Attributes:
        image: P, `(3, S, S)` float32, in normalized pixels.
    """

    background_logit: nn.Parameter | None
    strength: Tensor
    fixed_background: Tensor

    def __init__(
        self,
        size: int,
        *,
        strength: float = 1.0,
        background: float = 1.0,
        learn_background: bool = False,
    ) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros(3, size, size))
        self.background_logit = None
        self.register_buffer("strength", torch.tensor(float(strength)))
        if not learn_background:
            self.register_buffer("fixed_background", torch.tensor(float(background)))
            return
        if not 0 < background < 1:
            raise OvsegError(
                f"a learned background must start between 0 and 1, not at {background:g}:"
                " give pixel_background=0.5"
            )
        logit = math.log(background / (1 - background))
        self.background_logit = nn.Parameter(torch.tensor(logit))

    @property
    def background(self) -> Tensor:
        """Beta, scalar in 0..1."""
        if self.background_logit is None:
            return self.fixed_background
        return self.background_logit.sigmoid()

    def forward(self, pixels_nchw: Tensor, masks_nhw: Tensor) -> Tensor:
        """Apply the prompt to regions.

        Args:
            pixels_nchw: `(N, 3, S, S)` float, normalized.
            masks_nhw: `(N, S, S)` bool or float >= 0, foreground above zero.

        Returns:
            `(N, 3, S, S)`; equal to the input if alpha is 0 and beta 1.
        """
        inside = (masks_nhw > 0).unsqueeze(1).to(pixels_nchw.dtype)
        attenuated = pixels_nchw * (inside + (1 - inside) * self.background)
        return attenuated + self.strength * inside * self.image

    def has(self, *, strength: float, background: float, learn_background: bool) -> bool:
        """Whether it was made with these settings; a learned background may have moved."""
        if learn_background or self.background_logit is not None:
            same = learn_background and self.background_logit is not None
        else:
            same = math.isclose(float(self.fixed_background), background, rel_tol=1e-3)
        return same and math.isclose(float(self.strength), strength, rel_tol=1e-3)

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], size: int) -> PixelPrompts:
        """Build from the tensors of `state_dict`; an image of another size is interpolated.

        Args:
            state: `image`, `strength`, and `fixed_background` or `background_logit`.
            size: side S of the CLIP's input.

        Raises:
            OvsegError: if the tensors are not pixel prompts.
        """
        is_learned = "background_logit" in state
        expected = {"image", "strength", "background_logit" if is_learned else "fixed_background"}
        image = state.get("image")
        if set(state) != expected or image is None or image.ndim != 3 or len(image) != 3:
            raise OvsegError(f"pixel prompts have {sorted(expected)}, not {sorted(state)}")
        prompts = cls(size, background=0.5, learn_background=is_learned)
        if image.shape[1:] != (size, size):
            image = F.interpolate(
                image[None].float(), size=(size, size), mode="bicubic", antialias=True
            )[0]
        try:
            prompts.load_state_dict({**state, "image": image})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise OvsegError(f"these are not pixel prompts: {reason}") from error
        return prompts
