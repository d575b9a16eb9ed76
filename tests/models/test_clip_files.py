"""CLIPs by their names: folders, weights files, digests, and what is refused."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from tiny import CLIP, make_clip, pixels_and_masks
from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.clip.load import clip_digest, create_clip, load_clip, shared_clip
from ovseg.models.clip.save import save_clip


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
    with pytest.raises(OvsegError, match="depth 2, not 3"):
        load_clip(str(tmp_path / "prompted"), prompt_depth=3)
    with pytest.raises(OvsegError, match=r"not in 0\.\.3"):
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
    config = {**CLIP, "text_cfg": {"context_length": 12, "width": 32, "heads": 2, "layers": 1}}
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
    with pytest.raises(OvsegError, match="has no weights for tiny-for-test"):
        load_clip(name)


def tiny_architecture(folder: Path, name: str, **changes: object) -> None:
    config = {**CLIP, "text_cfg": {"context_length": 12, "width": 32, "heads": 2, "layers": 1}}
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
    with pytest.raises(OvsegError, match=r"cannot download .* give their path") as caught:
        load_clip("ViT-B-32/openai")
    assert "\n" not in str(caught.value)


def test_damaged_files_and_other_towers_are_refused(vocabulary: Path, tmp_path: Path):
    folder = save_clip(make_clip(vocabulary), tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(OvsegError, match=r"model\.safetensors is damaged"):
        load_clip(str(folder))
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "bpe_vocab.txt.gz").unlink()
    with pytest.raises(OvsegError, match="has 49408 entries, the model 614"):
        load_clip(str(folder))
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(OvsegError, match="no model_cfg"):
        load_clip(str(folder))
    resnet = {**CLIP, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32}}
    with pytest.raises(OvsegError, match="choose a ViT"):
        create_clip(resnet, vocabulary=vocabulary)
