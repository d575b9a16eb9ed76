"""Mask-adapted CLIP: the patch rule, the prompts, equality with open_clip, other input sizes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tiny import CLIP, make_clip, pixels_and_masks

from ovseg.errors import OvsegError
from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import PROMPT_KEY, MaskAdaptedCLIP, resized_patches
from ovseg.models.clip.prompted_tower import patch_masks


def test_a_patch_counts_as_foreground_from_one_pixel_on():
    masks = torch.zeros(4, 16, 16)
    masks[1] = 1
    masks[2, 7, 8] = 1
    masks[3, 15, 15] = 1e-4
    expected = [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert patch_masks(masks, 8).tolist() == expected
    assert patch_masks(masks.bool(), 8).tolist() == expected
    assert patch_masks(masks[:0], 8).shape == (0, 4)


def test_without_prompts_it_is_open_clip_to_the_bit(vocabulary: Path):
    pixels, masks = pixels_and_masks(5)
    for depth in (0, 2):
        model = make_clip(vocabulary, prompt_depth=depth)
        with torch.no_grad():
            expected = model.clip.encode_image(pixels, normalize=True)
            assert torch.equal(model.encode_regions(pixels), expected)
            assert torch.equal(model.encode_regions(pixels, masks, prompts=False), expected)
            tokens = model.tokenizer(["a red boat", "the sea"])
            assert torch.equal(
                model.encode_texts(["a red boat", "the sea"]),
                model.clip.encode_text(tokens, normalize=True),
            )
            assert torch.equal(make_clip(vocabulary).encode_regions(pixels, masks), expected)


@pytest.mark.parametrize("batch_first", [True, False])
def test_all_foreground_is_the_plain_model_and_all_background_ignores_the_pixels(
    vocabulary: Path, batch_first: bool
):
    model = make_clip(vocabulary, prompt_depth=3)
    pixels, _ = pixels_and_masks(4)
    transformer = model.clip.visual.transformer
    transformer.batch_first = batch_first
    for block in transformer.resblocks:
        block.attn.batch_first = batch_first
    with torch.no_grad():
        plain = model.encode_regions(pixels)
        full = model.encode_regions(pixels, torch.ones(4, 32, 32, dtype=torch.bool))
        empty = model.encode_regions(pixels, torch.zeros(4, 32, 32, dtype=torch.bool))
        elsewhere = model.encode_regions(-pixels, torch.zeros(4, 32, 32))
    torch.testing.assert_close(full, plain, rtol=0, atol=1e-6)
    assert (empty - plain).abs().max() > 1e-2
    torch.testing.assert_close(empty, elsewhere, rtol=0, atol=1e-6)
    torch.testing.assert_close(empty, empty[:1].expand(4, -1), rtol=0, atol=1e-6)


def test_only_prompts_of_layers_in_depth_are_used_and_all_get_gradients(vocabulary: Path):
    model = make_clip(vocabulary, prompt_depth=3)
    assert model.mask_prompts is not None and model.mask_prompts.shape == (3, 16, 32)
    pixels, masks = pixels_and_masks(3)
    model.encode_regions(pixels, masks)[:, 0].sum().backward()
    gradient = model.mask_prompts.grad
    assert gradient is not None
    assert all(layer.abs().max() > 0 for layer in gradient)
    always_kept = patch_masks(masks, 8).bool().all(dim=0)
    assert always_kept.any()
    assert gradient[:, always_kept].abs().max() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_zero_and_one_region(vocabulary: Path, count: int):
    model = make_clip(vocabulary, prompt_depth=2)
    pixels, masks = pixels_and_masks(3)
    with torch.no_grad():
        some = model.encode_regions(pixels[:count], masks[:count])
        every = model.encode_regions(pixels, masks)
        assert model.encode_texts([]).shape == (0, 16)
    assert some.shape == (count, 16)
    torch.testing.assert_close(some, every[:count], rtol=0, atol=1e-6)


def test_masks_of_another_size_are_refused(vocabulary: Path):
    model = make_clip(vocabulary, prompt_depth=2)
    pixels, masks = pixels_and_masks(3)
    with pytest.raises(ValueError, match="do not fit pixels"):
        model.encode_regions(pixels, masks[:2])


def test_checkpointed_blocks_give_the_same_gradients(vocabulary: Path):
    pixels, masks = pixels_and_masks(2)
    gradients = []
    for enable in (False, True):
        model = make_clip(vocabulary, prompt_depth=3)
        model.clip.set_grad_checkpointing(enable)
        model.encode_regions(pixels, masks).sum(dim=0)[0].backward()
        assert model.mask_prompts is not None and model.mask_prompts.grad is not None
        gradients.append(model.mask_prompts.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-7)


def test_threads_share_a_model(vocabulary: Path):
    model = make_clip(vocabulary, prompt_depth=3).requires_grad_(False)
    pixels, _ = pixels_and_masks(2)
    masks = [(torch.arange(32 * 32).reshape(1, 32, 32) // 37 % 7 == k % 7) for k in range(12)]
    masks = [mask.expand(2, -1, -1) if k % 3 else None for k, mask in enumerate(masks)]
    alone = [model.encode_regions(pixels, mask) for mask in masks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda mask: model.encode_regions(pixels, mask), masks * 5))
    assert all(torch.equal(a, b) for a, b in zip(alone * 5, together))


def test_texts_over_the_context_are_cut_as_open_clip_does(vocabulary: Path):
    model = make_clip(vocabulary)
    tokens = model.tokenizer(["boat " * 40])
    assert tokens.shape == (1, 12)
    assert int(tokens[0, -1]) == 613 == int(tokens.max())


# -------------------------------------------------------------------- weights of another input size


def at_size(vocabulary: Path, image_size: int, **options: int) -> MaskAdaptedCLIP:
    vision = {**CLIP["vision_cfg"], "image_size": image_size}
    torch.manual_seed(1)
    return create_clip({**CLIP, "vision_cfg": vision}, vocabulary=vocabulary, **options).eval()


def test_prompts_go_to_another_grid_as_the_positional_embedding_does(
    vocabulary: Path, tmp_path: Path
):
    state = make_clip(vocabulary, prompt_depth=3).checkpoint_state()
    position = "visual.positional_embedding"
    state[PROMPT_KEY][1] = state[position][1:]
    larger = at_size(vocabulary, 48)
    larger.load_checkpoint_state(state)
    assert larger.mask_prompts is not None and larger.mask_prompts.shape == (3, 36, 32)
    stock = at_size(vocabulary, 48).clip
    towers = {key: tensor for key, tensor in state.items() if key != PROMPT_KEY}
    save_file(
        {key: value.contiguous() for key, value in towers.items()}, tmp_path / "w.safetensors"
    )
    open_clip.load_checkpoint(stock, str(tmp_path / "w.safetensors"))
    theirs = stock.state_dict()[position]
    assert torch.equal(larger.checkpoint_state()[position], theirs)
    assert torch.equal(larger.mask_prompts[1], theirs[1:])
    smaller = at_size(vocabulary, 24)
    smaller.load_checkpoint_state(larger.checkpoint_state())
    assert smaller.mask_prompts is not None and smaller.mask_prompts.shape == (3, 9, 32)
    with torch.no_grad():
        assert (
            smaller.encode_regions(torch.zeros(1, 3, 24, 24), torch.ones(1, 24, 24))
            .isfinite()
            .all()
        )


def test_prompts_that_need_no_other_grid_stay_as_they_are(vocabulary: Path):
    model = make_clip(vocabulary, prompt_depth=2)
    same = make_clip(vocabulary, seed=1)
    same.load_checkpoint_state(model.checkpoint_state())
    assert torch.equal(same.mask_prompts, model.mask_prompts)
    shared = {**model.checkpoint_state(), PROMPT_KEY: torch.randn(2, 1, 32)}
    larger = at_size(vocabulary, 48)
    larger.load_checkpoint_state(shared)
    assert torch.equal(larger.mask_prompts, shared[PROMPT_KEY])
    flat = resized_patches(torch.full((2, 16, 32), 0.7), 9)
    torch.testing.assert_close(flat, torch.full((2, 81, 32), 0.7))


@pytest.mark.parametrize("shape", [(2, 9, 32), (2, 16, 16), (16, 32)])
def test_prompts_of_another_grid_than_their_weights_are_refused(vocabulary: Path, shape):
    state = {**make_clip(vocabulary).checkpoint_state(), PROMPT_KEY: torch.zeros(shape)}
    for image_size in (32, 48):
        with pytest.raises(OvsegError, match=r"\(depth, 16 or 1, 32\) expected"):
            at_size(vocabulary, image_size).load_checkpoint_state(state)
    with pytest.raises(ValueError, match="do not form a square grid"):
        resized_patches(torch.zeros(15, 32), 4)
