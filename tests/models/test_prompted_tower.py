"""Tokens in the image tower: visual prompts beside patches, against blocks written out by hand."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import clip_config, make_clip
from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.clip.load import clip_digest, create_clip, load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.prompted_tower import patch_masks
from ovseg.models.clip.save import save_clip

CONFIG = clip_config(vision={"layers": 4})


@pytest.fixture
def clip(vocabulary: Path) -> MaskAdaptedCLIP:
    return make_clip(vocabulary, CONFIG)


def regions(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(count, 32, 32, dtype=torch.bool)
    for index in range(count):
        masks[index, 3 + index : 20, 9 : 12 + index] = True
    return torch.randn(count, 3, 32, 32, generator=generator), masks


def drawn(clip: MaskAdaptedCLIP, depth: int, count: int) -> None:
    clip.draw_visual_prompts(depth, count)
    nn.init.normal_(clip.visual_prompts, std=0.5)


def attention(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A residual block of the tower on one region's tokens `(T, width)`, head by head."""
    y = block.ln_1(x)
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    q, k, v = (y @ weight.T + bias).chunk(3, dim=-1)
    heads = []
    for head in range(2):
        part = slice(16 * head, 16 * head + 16)
        scores = q[:, part] @ k[:, part].T / 16**0.5
        heads.append(scores.softmax(dim=-1) @ v[:, part])
    x = x + block.attn.out_proj(torch.cat(heads, dim=-1))
    return x + block.mlp(block.ln_2(x))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("token_depth", [0, 3])
def test_the_tower_is_the_one_written_out(clip, depth: int, token_depth: int):
    drawn(clip, depth, 5)
    clip.draw_prompts(token_depth)
    if token_depth:
        nn.init.normal_(clip.mask_prompts, std=0.5)
    pixels, masks = regions()
    visual = clip.clip.visual
    with torch.no_grad():
        found = clip.encode_regions(pixels, masks)
        for n in range(len(pixels)):
            patches = visual.conv1(pixels[n : n + 1])[0].flatten(1).T
            blank = patch_masks(masks[n : n + 1], 8)[0] == 0

            def replaced(patches, layer, blank=blank):
                if layer < token_depth:
                    patches = patches.clone()
                    patches[blank] = clip.mask_prompts[layer][blank]
                return patches

            x = torch.cat([visual.class_embedding[None], replaced(patches, 0)])
            x = visual.ln_pre(x + visual.positional_embedding)
            first, beside, patches = x[:1], x[:0], x[1:]
            for layer, block in enumerate(visual.transformer.resblocks):
                if layer < depth:
                    beside = clip.visual_prompts[layer]
                x = attention(block, torch.cat([first, beside, patches]))
                first, beside, patches = x[:1], x[1 : 1 + len(beside)], x[1 + len(beside) :]
                patches = replaced(patches, layer + 1)
            expected = F.normalize(visual.ln_post(first)[0] @ visual.proj, dim=-1)
            torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=1e-4)


def test_they_do_not_ask_for_a_mask_and_can_be_left_aside(clip):
    pixels, masks = regions()
    with torch.no_grad():
        plain = clip.encode_regions(pixels)
        drawn(clip, 2, 3)
        shown = clip.encode_regions(pixels)
        assert not torch.allclose(shown, plain)
        assert torch.equal(clip.encode_regions(pixels, masks), shown)
        assert torch.equal(clip.encode_regions(pixels, masks, prompts=False), plain)


def test_pooling_over_patches_leaves_the_prompts_out(vocabulary):
    torch.manual_seed(0)
    vision = {**CONFIG["vision_cfg"], "pool_type": "avg"}
    clip = create_clip({**CONFIG, "vision_cfg": vision}, vocabulary=vocabulary).eval()
    drawn(clip, 4, 5)
    pooled = []
    clip.clip.visual.ln_post.register_forward_hook(lambda _m, _i, out: pooled.append(out.shape))
    with torch.no_grad():
        assert clip.encode_regions(regions()[0]).shape == (3, 16)
    assert pooled in ([(3, 17, 32)], [(3, 32)])


def test_gradients_reach_the_prompts_alone(clip):
    clip.requires_grad_(False)
    drawn(clip, 3, 4)
    clip.encode_regions(*regions())[:, 0].sum().backward()
    for name, parameter in clip.named_parameters():
        assert (parameter.grad is None) == (name != "visual_prompts"), name
    assert (clip.visual_prompts.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_they_are_kept_in_files_and_in_the_digest(clip, tmp_path):
    plain = clip_digest(str(save_clip(clip, tmp_path / "plain")))
    drawn(clip, 2, 3)
    folder = save_clip(clip, tmp_path / "prompted")
    loaded = load_clip(str(folder))
    assert torch.equal(loaded.visual_prompts, clip.visual_prompts)
    with torch.no_grad():
        pixels = regions()[0]
        assert torch.equal(loaded.encode_regions(pixels), clip.encode_regions(pixels))
    assert clip_digest(str(folder)) != plain
    assert load_clip(str(folder), prompt_depth=0).visual_prompts is None
    state = clip.checkpoint_state()
    for shape in ((5, 3, 32), (2, 3, 16)):
        with pytest.raises(OvsegError, match="visual"):
            loaded.load_checkpoint_state({**state, "visual_prompts": torch.zeros(shape)})
    with pytest.raises(OvsegError, match=r"visual_depth 5 is not in 0\.\.4"):
        clip.draw_visual_prompts(5, 3)
