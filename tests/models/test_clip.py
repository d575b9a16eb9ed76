"""Mask-adapted CLIP: the patch rule, the prompts, equality with open_clip, files and digests."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.clip import (
    MaskAdaptedCLIP,
    clip_digest,
    create_clip,
    load_clip,
    save_clip,
    shared_clip,
)
from ovseg.models.mask_prompts import PROMPT_KEY, resized_patches
from ovseg.models.prompted_tower import patch_masks
from ovseg.storybook.vocabulary import cut_bpe

CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 32,
        "head_width": 16,
        "layers": 3,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 614, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "bpe_vocab.txt.gz"
    assert cut_bpe(Path(open_clip.tokenizer.default_bpe()), path, merges=100) == 614
    return path


def make_clip(vocabulary: Path, *, prompt_depth: int = 0, seed: int = 0) -> MaskAdaptedCLIP:
    torch.manual_seed(seed)
    model = create_clip(CONFIG, prompt_depth=prompt_depth, vocabulary=vocabulary)
    if model.mask_prompts is not None:
        nn.init.normal_(model.mask_prompts, std=0.5)
    return model.eval()


def pixels_and_masks(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, 32, 32, generator=generator)
    masks = torch.zeros(count, 32, 32, dtype=torch.bool)
    for index in range(count):
        masks[index, index % 16 : 20, 3 : 9 + index] = True
    return pixels, masks


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


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("depth", [0, 3])
def test_a_folder_gives_the_same_model_back(
    vocabulary: Path, tmp_path: Path, depth: int, half: bool
):
    model = make_clip(vocabulary, prompt_depth=depth)
    save_clip(model, tmp_path / "clip", half=half)
    loaded = load_clip(str(tmp_path / "clip"))
    assert loaded.prompt_depth == depth and not loaded.training
    assert {tensor.dtype for tensor in loaded.checkpoint_state().values()} == {torch.float32}
    pixels, masks = pixels_and_masks(3)
    tolerance = 5e-3 if half else 0
    with torch.no_grad():
        for before, after in (
            (model.encode_regions(pixels, masks), loaded.encode_regions(pixels, masks)),
            (model.encode_texts(["boats, a sea"]), loaded.encode_texts(["boats, a sea"])),
        ):
            torch.testing.assert_close(before, after, rtol=0, atol=tolerance)
    save_clip(loaded, tmp_path / "again", half=half)
    assert clip_digest(str(tmp_path / "again")) == clip_digest(str(tmp_path / "clip"))
    assert not list((tmp_path / "clip").glob("*.p*"))


def test_stock_open_clip_reads_the_folder(vocabulary: Path, tmp_path: Path):
    model = make_clip(vocabulary, prompt_depth=2)
    folder = save_clip(model, tmp_path)
    stock, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(
        f"local-dir:{folder}", bpe_path=str(folder / "bpe_vocab.txt.gz")
    )
    pixels, _ = pixels_and_masks(2)
    stock.eval()
    with torch.no_grad():
        assert torch.equal(stock.encode_image(pixels, normalize=True), model.encode_regions(pixels))
        assert torch.equal(
            stock.encode_text(tokenizer(["a boat"]), normalize=True), model.encode_texts(["a boat"])
        )
    assert "Normalize" in str(preprocess)


def test_prompt_depth_asked_for(vocabulary: Path, tmp_path: Path):
    save_clip(make_clip(vocabulary), tmp_path / "plain")
    save_clip(make_clip(vocabulary, prompt_depth=2), tmp_path / "prompted")
    fresh = load_clip(str(tmp_path / "plain"), prompt_depth=3)
    assert fresh.mask_prompts is not None and 0.01 < float(fresh.mask_prompts.detach().std()) < 0.03
    assert load_clip(str(tmp_path / "prompted"), prompt_depth=0).mask_prompts is None
    assert load_clip(str(tmp_path / "prompted"), prompt_depth=2).prompt_depth == 2
    with pytest.raises(OvsegError, match="depth 2, 3 was asked for"):
        load_clip(str(tmp_path / "prompted"), prompt_depth=3)
    with pytest.raises(OvsegError, match=r"within 0\.\.3"):
        make_clip(vocabulary, prompt_depth=4)


def test_the_digest_follows_every_file(vocabulary: Path, tmp_path: Path):
    model = make_clip(vocabulary, prompt_depth=2)
    folder = save_clip(model, tmp_path)
    digests = {clip_digest(str(folder))}
    state = load_file(folder / "model.safetensors")
    state["visual.proj"][0, 0] += 1e-3
    save_file(state, folder / "model.safetensors")
    digests.add(clip_digest(str(folder)))
    assert model.mask_prompts is not None
    save_file(
        {"visual.mask_embedding": model.mask_prompts.detach() * 2},
        folder / "mask_prompts.safetensors",
    )
    digests.add(clip_digest(str(folder)))
    (folder / "mask_prompts.safetensors").unlink()
    digests.add(clip_digest(str(folder)))
    assert len(digests) == 4


def test_saving_over_a_prompted_model_leaves_no_old_prompts(vocabulary: Path, tmp_path: Path):
    save_clip(make_clip(vocabulary, prompt_depth=2), tmp_path)
    save_clip(make_clip(vocabulary), tmp_path)
    assert load_clip(str(tmp_path)).prompt_depth == 0
    again = load_clip(str(tmp_path))
    save_clip(again, tmp_path)  # onto its own files
    assert load_clip(str(tmp_path)).encode_texts(["a boat"]).shape == (1, 16)


def test_one_shared_instance_a_content(vocabulary: Path, tmp_path: Path):
    save_clip(make_clip(vocabulary), tmp_path)
    first = shared_clip(str(tmp_path))
    assert shared_clip(str(tmp_path)) is first
    assert not any(parameter.requires_grad for parameter in first.parameters())
    save_clip(make_clip(vocabulary, seed=1), tmp_path)
    assert shared_clip(str(tmp_path)) is not first


def test_a_weights_file_with_the_name_of_its_architecture(tmp_path: Path):
    config = {**CONFIG, "text_cfg": {"context_length": 12, "width": 32, "heads": 2, "layers": 1}}
    (tmp_path / "tiny-for-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-for-test.json")
    torch.manual_seed(0)
    model = create_clip(config, prompt_depth=3)
    path = tmp_path / "tuned.safetensors"
    state = {key: tensor.half().contiguous() for key, tensor in model.checkpoint_state().items()}
    save_file(state, path)
    name = f"tiny-for-test/{path}"
    loaded = load_clip(name)
    assert loaded.prompt_depth == 3 and loaded.image_size == 32 and loaded.embed_dim == 16
    assert isinstance(loaded.clip.visual.transformer.resblocks[0].mlp.gelu, QuickGELU)
    assert torch.equal(loaded.clip.visual.proj, model.clip.visual.proj.half().float())
    assert load_clip(name, prompt_depth=0).prompt_depth == 0
    del state["visual.mask_embedding"]
    trained = {"epoch": 5, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(trained, tmp_path / "epoch_5.pt")
    assert load_clip(f"tiny-for-test/{tmp_path / 'epoch_5.pt'}").prompt_depth == 0
    assert len(clip_digest(name)) == 64
    del state["visual.proj"]
    save_file(state, path)
    with pytest.raises(OvsegError, match="holds no weights for tiny-for-test"):
        load_clip(name)


def tiny_architecture(folder: Path, name: str, **changes: object) -> None:
    config = {**CONFIG, "text_cfg": {"context_length": 12, "width": 32, "heads": 2, "layers": 1}}
    (folder / f"{name}.json").write_text(json.dumps({**config, **changes}))
    open_clip.add_model_config(folder / f"{name}.json")


def test_the_digest_of_one_file_follows_the_activation(tmp_path: Path):
    for name, quick in (("tiny-gelu", False), ("tiny-quick", True)):
        tiny_architecture(tmp_path, name, quick_gelu=quick)
    model = create_clip(open_clip.get_model_config("tiny-gelu"))
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in model.checkpoint_state().items()}, path)
    assert clip_digest(f"tiny-gelu/{path}") == clip_digest(f"tiny-gelu/{path}")
    assert clip_digest(f"tiny-gelu/{path}") != clip_digest(f"tiny-quick/{path}")


def test_an_archive_as_openai_publishes_its_weights(tmp_path: Path):
    tiny_architecture(tmp_path, "tiny-openai", quick_gelu=False)
    model = create_clip(open_clip.get_model_config("tiny-openai"))
    holder = nn.Module()
    for key, tensor in model.checkpoint_state().items():
        *path, last = key.split(".")
        owner = holder
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.register_parameter(last, nn.Parameter(tensor.detach().half()))
    for number in ("input_resolution", "context_length", "vocab_size"):
        holder.register_buffer(number, torch.tensor(32))
    torch.jit.save(torch.jit.script(holder), tmp_path / "tiny.pt")
    loaded = load_clip(f"tiny-openai/{tmp_path / 'tiny.pt'}")
    assert torch.equal(loaded.clip.visual.proj, model.clip.visual.proj.half().float())
    assert isinstance(loaded.clip.visual.transformer.resblocks[0].mlp.gelu, QuickGELU)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("no-such-model", "give 'storybook', a folder"),
        ("ViT-B-32", "give 'storybook', a folder"),
        ("ViT-B-32/no-such-tag", "neither a file nor a tag"),
        ("/", "has no open_clip_config.json"),
    ],
)
def test_unknown_names_get_one_line_of_advice(name: str, advice: str):
    for function in (load_clip, clip_digest):
        with pytest.raises(OvsegError, match=advice) as caught:
            function(name)
        assert "\n" not in str(caught.value)


def test_an_impossible_download_gets_one_line_of_advice(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(OvsegError, match=r"cannot download .* name the file") as caught:
        load_clip("ViT-B-32/openai")
    assert "\n" not in str(caught.value)


def test_damaged_files_and_other_towers_are_refused(vocabulary: Path, tmp_path: Path):
    folder = save_clip(make_clip(vocabulary), tmp_path)
    (folder / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(OvsegError, match="cannot read the weights"):
        load_clip(str(folder))
    (folder / "bpe_vocab.txt.gz").unlink()
    with pytest.raises(OvsegError, match="has 49408 entries, the model 614"):
        load_clip(str(folder))
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(OvsegError, match="no model_cfg"):
        load_clip(str(folder))
    resnet = {**CONFIG, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32}}
    with pytest.raises(OvsegError, match="choose a ViT"):
        create_clip(resnet, vocabulary=vocabulary)


def test_texts_over_the_context_are_cut_as_open_clip_does(vocabulary: Path):
    model = make_clip(vocabulary)
    tokens = model.tokenizer(["boat " * 40])
    assert tokens.shape == (1, 12)
    assert int(tokens[0, -1]) == 613 == int(tokens.max())


# -------------------------------------------------------------------- weights of another input size


def at_size(vocabulary: Path, image_size: int, **options: int) -> MaskAdaptedCLIP:
    vision = {**CONFIG["vision_cfg"], "image_size": image_size}
    torch.manual_seed(1)
    return create_clip({**CONFIG, "vision_cfg": vision}, vocabulary=vocabulary, **options).eval()


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
    with pytest.raises(ValueError, match="no square grid"):
        resized_patches(torch.zeros(15, 32), 4)
