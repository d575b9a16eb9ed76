"""Pixel prompts: the formula pixel by pixel, what they leave alone, gradients, files, digests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import CLIP
from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.clip.load import clip_digest, create_clip, load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.pixel_prompts import PixelPrompts
from ovseg.models.clip.save import save_clip
from ovseg.models.regions.crops import region_crops

SIZE = 32
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture
def clip(vocabulary: Path) -> MaskAdaptedCLIP:
    torch.manual_seed(0)
    return create_clip(CLIP, prompt_depth=2, vocabulary=vocabulary).eval()


def prompts_of(seed: int = 0, **settings: object) -> PixelPrompts:
    prompts = PixelPrompts(SIZE, **settings)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nn.init.normal_(prompts.image)
    return prompts


def regions(count: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    masks = torch.rand(count, SIZE, SIZE, generator=generator) > 0.6
    masks[0, :16] = False
    return pixels, masks


def test_the_formula_is_that_of_a_loop_over_pixels():
    prompts = prompts_of(strength=0.7, background=0.25)
    pixels, masks = regions(2)
    shown = prompts(pixels, masks).detach()
    for n in range(2):
        for c in range(3):
            for y in range(SIZE):
                for x in range(SIZE):
                    value = float(pixels[n, c, y, x])
                    if masks[n, y, x]:
                        value += 0.7 * float(prompts.image.detach()[c, y, x])
                    else:
                        value *= 0.25
                    assert float(shown[n, c, y, x]) == pytest.approx(value, abs=1e-6)


@given(alpha=st.floats(0, 3), beta=st.floats(0, 1), seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_what_alpha_and_beta_leave_alone(alpha: float, beta: float, seed: int):
    pixels, masks = regions(seed=seed)
    inside = masks[:, None].expand_as(pixels)
    nothing = prompts_of(seed, strength=0.0, background=1.0)(pixels, masks)
    assert torch.equal(nothing, pixels)
    shown = prompts_of(seed, strength=alpha, background=1.0)(pixels, masks)
    assert torch.equal(shown[~inside], pixels[~inside])  # P is nowhere but in the mask
    faded = prompts_of(seed, strength=0.0, background=beta)(pixels, masks)
    assert torch.equal(faded[inside], pixels[inside])
    assert torch.equal(faded[~inside], pixels[~inside] * torch.tensor(beta))
    # an empty mask is all background, a full one has none
    none, full = torch.zeros_like(masks), torch.ones_like(masks)
    both = prompts_of(seed, strength=alpha, background=beta)
    assert torch.equal(both(pixels, none), pixels * torch.tensor(beta))
    assert torch.equal(both(pixels, full), pixels + torch.tensor(alpha) * both.image)


def test_soft_masks_count_above_zero():
    pixels, masks = regions()
    prompts = prompts_of(background=0.5)
    assert torch.equal(prompts(pixels, masks * 0.01), prompts(pixels, masks))


def test_no_background_is_the_papers_crop_and_an_attenuated_one_the_style():
    # an image that is its own box and as large as the square, so that nothing is resized
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    masks = regions(1)[1].clone()
    masks[0, 0, 0] = masks[0, -1, -1] = True

    def show(region: str, background: float = 0.3):
        style = {"region": region, "background": background}
        return region_crops(image, masks.numpy(), size=SIZE, mean=MEAN, std=STD, **style)

    box = show("box")
    blank = PixelPrompts(SIZE, background=0.0)(box.pixels, box.masks)
    torch.testing.assert_close(blank, show("mean").pixels, atol=1e-5, rtol=0)
    for region, kept in (("attenuated_box", "box"), ("attenuated_image", "image")):
        whole = show(kept)
        faded = PixelPrompts(SIZE, background=0.4)(whole.pixels, whole.masks)
        torch.testing.assert_close(faded, show(region, 0.4).pixels, atol=1e-5, rtol=0)


def test_a_clip_shows_them_to_its_tower_and_leaves_regions_without_a_mask_alone(clip):
    pixels, masks = regions()
    clip.draw_prompts(0)
    with torch.no_grad():
        plain = clip.encode_regions(pixels)
        clip.pixel_prompts = prompts_of(strength=0.5, background=0.3)
        shown = clip.pixel_prompts(pixels, masks)
        assert torch.equal(clip.encode_regions(pixels, masks), clip.encode_regions(shown))
        assert not torch.allclose(clip.encode_regions(pixels, masks), plain)
        assert torch.equal(clip.encode_regions(pixels), plain)
        assert torch.equal(clip.encode_regions(pixels, masks, prompts=False), plain)
        assert clip.encode_regions(pixels[:0], masks[:0]).shape == (0, 16)
    with pytest.raises(ValueError, match="do not fit"):
        clip.encode_regions(pixels, masks[:2])


def test_both_kinds_at_once_are_one_after_the_other(clip):
    pixels, masks = regions()
    with torch.no_grad():
        clip.pixel_prompts = prompts_of(strength=0.5, background=0.3)
        both = clip.encode_regions(pixels, masks)
        shown = clip.pixel_prompts(pixels, masks)
        clip.pixel_prompts = None
        assert torch.equal(both, clip.encode_regions(shown, masks))


def test_gradients_reach_the_prompt_inside_masks_and_nothing_that_is_frozen(clip):
    clip.requires_grad_(False)
    clip.pixel_prompts = prompts_of(strength=0.5, background=0.4, learn_background=True)
    pixels, masks = regions()
    masks[:, 5:9] = False
    clip.encode_regions(pixels, masks)[:, 0].sum().backward()
    gradient = clip.pixel_prompts.image.grad
    assert gradient is not None
    somewhere = masks.any(dim=0)
    assert not gradient[:, ~somewhere].any() and (gradient[:, somewhere] != 0).all()
    assert clip.pixel_prompts.background_logit.grad.abs() > 0
    for name, parameter in clip.named_parameters():
        assert (parameter.grad is None) == (not name.startswith("pixel_prompts.")), name


def test_the_background_is_learned_or_fixed():
    learned = PixelPrompts(SIZE, background=0.2, learn_background=True)
    assert float(learned.background) == pytest.approx(0.2)
    assert {name for name, _ in learned.named_parameters()} == {"image", "background_logit"}
    fixed = PixelPrompts(SIZE, background=0.2)
    assert {name for name, _ in fixed.named_parameters()} == {"image"}
    for end in (0.0, 1.0):
        with pytest.raises(OvsegError, match="must start between 0 and 1"):
            PixelPrompts(SIZE, background=end, learn_background=True)


@pytest.mark.parametrize("learn_background", [False, True])
def test_they_are_kept_beside_the_weights_and_in_the_digest(clip, tmp_path, learn_background):
    pixels, masks = regions()
    plain = clip_digest(str(save_clip(clip, tmp_path / "plain")))
    clip.pixel_prompts = prompts_of(strength=0.5, background=0.3, learn_background=learn_background)
    folder = save_clip(clip, tmp_path / "prompted")
    kept = load_file(folder / "mask_prompts.safetensors")
    beta = "background_logit" if learn_background else "fixed_background"
    assert set(kept) == {
        "visual.mask_embedding",
        *(f"pixel_prompts.{name}" for name in ("image", "strength", beta)),
    }
    loaded = load_clip(str(folder))
    assert loaded.pixel_prompts.has(strength=0.5, background=0.3, learn_background=learn_background)
    with torch.no_grad():
        expected = clip.encode_regions(pixels, masks)
        assert torch.equal(loaded.encode_regions(pixels, masks), expected)
    digests = {plain, clip_digest(str(folder))}
    with torch.no_grad():
        clip.pixel_prompts.strength.fill_(0.6)
    digests.add(clip_digest(str(save_clip(clip, tmp_path / "stronger"))))
    assert len(digests) == 3
    assert load_clip(str(folder), prompt_depth=0).pixel_prompts is None
    # open_clip reads the folder as if they were not there
    assert "model_cfg" in json.loads((folder / "open_clip_config.json").read_text())
    assert not any("prompt" in name for name in load_file(folder / "model.safetensors"))


def test_prompts_of_another_size_are_interpolated_and_damaged_ones_refused(clip):
    state = {f"pixel_prompts.{k}": v for k, v in PixelPrompts(16).state_dict().items()}
    state["pixel_prompts.image"] = torch.full((3, 16, 16), 0.5)
    clip.load_checkpoint_state({**clip.checkpoint_state(), **state})
    assert torch.allclose(clip.pixel_prompts.image, torch.full((3, SIZE, SIZE), 0.5), atol=1e-6)
    for damage in (
        {"pixel_prompts.image": torch.zeros(4, 16, 16)},
        {"pixel_prompts.strength": torch.zeros(2)},
        {"pixel_prompts.stranger": torch.zeros(2)},
    ):
        with pytest.raises(OvsegError, match="pixel prompts"):
            clip.load_checkpoint_state({**clip.checkpoint_state(), **state, **damage})


@pytest.mark.parametrize("layout", ["open_clip", "open_clip_prompts"])
@pytest.mark.parametrize("kind", ["pixel", "visual"])
def test_published_formats_have_no_place_for_them(clip, tmp_path, kind, layout):
    if kind == "pixel":
        clip.pixel_prompts = prompts_of()
    else:
        clip.draw_visual_prompts(2, 4)
    folder = save_clip(clip, tmp_path / "prompted")
    with pytest.raises(OvsegError, match=f"{kind}_prompts.*no published format") as error:
        export_checkpoint(str(folder), tmp_path / "out.pt", layout=layout)
    assert "\n" not in str(error.value) and not (tmp_path / "out.pt").exists()
