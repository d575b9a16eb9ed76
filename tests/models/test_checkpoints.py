"""Published checkpoints in, our folders out, and back: every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from published_weights import (
    BOTTLENECK,
    CLIP,
    NAMES,
    RESNET,
    SMALL,
    SWIN,
    clip_state,
    maskformer_state,
    ovseg_state,
    read,
    same,
    save_archive,
    save_arrays,
    save_ovseg,
    save_training,
)
from safetensors.torch import load_file, save_file
from torch import nn

from ovseg.config.model_names import clip_folder, maskformer_folder
from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.models.checkpoints import closed_maskformers as closed_checkpoints
from ovseg.models.checkpoints.clip_names import (
    OVSEG_PREFIX,
    clip_configuration,
    prefixed,
    stock_architecture,
)
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.checkpoints.importing import import_checkpoint
from ovseg.models.checkpoints.kinds import ImportRecord
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.load import clip_digest, create_clip, load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.preprocessing import InputSize
from ovseg.models.segmentor import Segmentor


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small OVSeg checkpoint."""
    folder = tmp_path_factory.mktemp("ovseg")
    save_ovseg(ovseg_state(), folder / "small.pth")
    import_checkpoint(folder / "small.pth", folder / "imported", **SMALL)
    return folder / "imported"


# ---------------------------------------------------------------------------- OVSeg, there and back


@pytest.mark.parametrize("architecture", [SWIN, RESNET, BOTTLENECK], ids=["swin", "R101c", "R50"])
def test_an_ovseg_checkpoint_there_and_back_to_the_bit(tmp_path: Path, architecture):
    state = ovseg_state(architecture)
    source = save_ovseg(state, tmp_path / "published.pth")
    record = import_checkpoint(source, tmp_path / "ours", **SMALL)
    assert set(record.dropped) == {
        "clip_adapter.pixel_mean",
        "clip_adapter.pixel_std",
        "criterion.empty_weight",
    }
    assert record.tensors + len(record.dropped) == len(state)
    assert record.source == "published.pth" and record.sha256 == file_sha256(source)
    assert record == ImportRecord.read(tmp_path / "ours")
    assert (closed_checkpoints.STRIDES in record.notes) == (architecture is BOTTLENECK)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".pt", ".pkl", ".bin")]
    export_checkpoint(str(tmp_path / "ours"), tmp_path / "back.pth", layout="ovseg")
    back = read(tmp_path / "back.pth", "model")
    same(back, state)
    # without this the official code renames the pixel decoder's tensors and then misses them
    assert back._metadata["sem_seg_head"]["version"] == 2
    again = import_checkpoint(tmp_path / "back.pth", tmp_path / "again", **SMALL)
    assert again.tensors == record.tensors


def test_the_folder_is_named_wherever_a_clip_or_a_maskformer_is(imported: Path):
    name = str(imported)
    assert clip_folder(name) == imported / "clip"
    assert maskformer_folder(name) == imported / "maskformer"
    clip, network = load_clip(name), load_maskformer(name)
    assert clip.prompt_depth == 3 and clip.pixel_mean == pytest.approx(
        (0.4815, 0.4578, 0.4082), 1e-3
    )
    assert isinstance(clip.clip.visual.transformer.resblocks[0].mlp.gelu, QuickGELU)
    assert clip_digest(name) == clip_digest(str(imported / "clip"))
    assert network.class_names == tuple(NAMES)
    assert (network.inputs.short_side, network.inputs.max_side) == (640, 2560)
    texts = torch.linalg.vector_norm(network.text_embeddings, dim=1)
    torch.testing.assert_close(texts, torch.ones(2))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    names, size = ["sea", "moon", "tree"], InputSize(short_side=64)
    segmentor = Segmentor(clip, network, class_names=names, size=size)
    assert segmentor.segment(image).labels.shape == (64, 96)


def test_the_text_embeddings_are_those_of_the_training_classes(tmp_path: Path):
    state = ovseg_state(classes=171)
    record = import_checkpoint(save_ovseg(state, tmp_path / "a.pth"), tmp_path / "a")
    network = load_maskformer(str(tmp_path / "a"))
    assert network.class_names == tuple(c.name for c in read_vocabulary("coco-stuff-171"))
    assert network.text_embeddings.shape == (171, 16)
    assert any("COCO-Stuff" in note for note in record.notes)
    with pytest.raises(OvsegError, match="trained on 171 classes, but there are 2 names"):
        import_checkpoint(tmp_path / "a.pth", tmp_path / "b", class_names=NAMES)


def test_other_constants_of_training_survive_the_way_back(tmp_path: Path):
    state = ovseg_state(RESNET)
    state["criterion.empty_weight"] = torch.tensor([1.0, 1.0, 0.37])
    record = import_checkpoint(save_ovseg(state, tmp_path / "a.pth"), tmp_path / "a", **SMALL)
    export_checkpoint(str(tmp_path / "a"), tmp_path / "back.pth", layout="ovseg")
    same(read(tmp_path / "back.pth", "model"), state)
    counters = {"backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(5)}
    statistics = {"pixel_mean": torch.full((3, 1, 1), 100.0), "pixel_std": torch.ones(3, 1, 1)}
    save_ovseg(state | counters | statistics, tmp_path / "b.pth")
    more = import_checkpoint(tmp_path / "b.pth", tmp_path / "b", **SMALL)
    assert set(more.dropped) - set(record.dropped) == {*counters, *statistics}
    inputs = load_maskformer(str(tmp_path / "b")).inputs
    assert inputs.mean == (100.0, 100.0, 100.0) and inputs.std == (1.0, 1.0, 1.0)


def test_half_precision_comes_back_as_half_precision(tmp_path: Path):
    state = {
        name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in ovseg_state().items()
        if not name.startswith("clip_adapter.pixel")
    }
    state["clip_adapter.clip_model.ln_final.weight"] = torch.ones(64).bfloat16()
    import_checkpoint(save_ovseg(state, tmp_path / "a.pth"), tmp_path / "a", **SMALL)
    assert load_file(tmp_path / "a" / "clip" / "model.safetensors")["visual.proj"].dtype == (
        torch.float32
    )
    export_checkpoint(str(tmp_path / "a"), tmp_path / "back.pth", layout="ovseg")
    back = read(tmp_path / "back.pth", "model")
    same({name: back[name] for name in state}, state)


def test_a_clip_tuned_since_takes_the_place_of_the_old_one(imported: Path, tmp_path: Path):
    clip = load_clip(str(imported))
    with torch.no_grad():
        clip.clip.visual.proj.add_(1)
    save_clip(clip, tmp_path / "tuned")
    out = tmp_path / "whole.pth"
    export_checkpoint(str(imported), out, layout="ovseg", clip=str(tmp_path / "tuned"))
    state = ovseg_state()
    state[f"{OVSEG_PREFIX}visual.proj"] += 1
    same(read(out, "model"), state)


def test_detectron2_arrays_in_the_official_layout(tmp_path: Path):
    content = {"model": ovseg_state(), "__author__": "somebody", "matching_heuristics": True}
    record = import_checkpoint(save_arrays(content, tmp_path / "a.pkl"), tmp_path / "a", **SMALL)
    assert {"__author__", "matching_heuristics"} <= set(record.dropped)
    export_checkpoint(str(tmp_path / "a"), tmp_path / "back.pth", layout="ovseg")
    same(read(tmp_path / "back.pth", "model"), content["model"])


def test_an_open_vocabulary_maskformer_without_its_clip(imported: Path, tmp_path: Path):
    source = save_ovseg(maskformer_state(), tmp_path / "alone.pth")
    with pytest.raises(OvsegError, match=r"the file has no CLIP.*--clip"):
        import_checkpoint(source, tmp_path / "alone", **SMALL)
    import_checkpoint(source, tmp_path / "alone", clip=str(imported), **SMALL)
    assert not (tmp_path / "alone" / "clip").exists()
    ours, whole = load_maskformer(str(tmp_path / "alone")), load_maskformer(str(imported))
    assert torch.equal(ours.text_embeddings, whole.text_embeddings)
    with pytest.raises(OvsegError, match="no open_clip_config"):
        load_clip(str(tmp_path / "alone"))
    out = tmp_path / "whole.pth"
    export_checkpoint(str(tmp_path / "alone"), out, layout="ovseg", clip=str(imported))
    same(read(out, "model"), ovseg_state())


# --------------------------------------------------------------------------------------- CLIP alone


@pytest.mark.parametrize("prompts", [0, 3])
def test_a_training_checkpoint_there_and_back(tmp_path: Path, prompts: int):
    state = clip_state(prompts=prompts)
    source = save_training(state, tmp_path / "epoch_5.pt")
    record = import_checkpoint(source, tmp_path / "ours")
    assert set(record.dropped) == {"epoch", "name", "optimizer", "scaler"}
    assert record.tensors == len(state)
    clip = load_clip(str(tmp_path / "ours"))
    assert clip.prompt_depth == prompts
    same(clip.checkpoint_state(), state)
    with pytest.raises(OvsegError, match=r"no config\.json"):
        load_maskformer(str(tmp_path / "ours"))
    export_checkpoint(str(tmp_path / "ours"), tmp_path / "a.pt", layout="open_clip_prompts")
    same(read(tmp_path / "a.pt", "state_dict"), prefixed(state, "module."))
    report = export_checkpoint(str(tmp_path / "ours"), tmp_path / "b.pt", layout="open_clip")
    assert list(report.left_out) == (["visual.mask_embedding"] if prompts else [])
    state.pop("visual.mask_embedding", None)
    same(read(tmp_path / "b.pt", "state_dict"), prefixed(state, "module."))


def test_an_export_says_that_it_leaves_learned_text_prompts_out(tmp_path: Path):
    import_checkpoint(
        save_training(clip_state(prompts=0), tmp_path / "epoch.pt"), tmp_path / "ours"
    )
    clip = load_clip(str(tmp_path / "ours"))
    clip.text_prompts = ContextVectors(clip, "a {}")
    save_clip(clip, tmp_path / "learned")
    report = export_checkpoint(str(tmp_path / "learned"), tmp_path / "a.pt", layout="open_clip")
    assert list(report.left_out) == ["text_prompts.safetensors"]


def test_stock_open_clip_loads_an_export_and_refuses_prompts(tmp_path: Path, monkeypatch):
    (tmp_path / "tiny-published.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(tmp_path / "tiny-published.json")
    import_checkpoint(save_training(clip_state(), tmp_path / "epoch.pt"), tmp_path / "ours")
    report = export_checkpoint(str(tmp_path / "ours"), tmp_path / "plain.pt", layout="open_clip")
    assert report.usage[0].startswith("open_clip.create_model_and_transforms('tiny-published'")
    model, _, _ = open_clip.create_model_and_transforms(
        "tiny-published", pretrained=str(tmp_path / "plain.pt")
    )
    ours = load_clip(str(tmp_path / "ours"))
    pixels = torch.randn(2, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        assert torch.equal(model.encode_image(pixels, normalize=True), ours.encode_regions(pixels))
        tokens = open_clip.get_tokenizer("tiny-published")(["a photo of a tree."])
        assert torch.equal(
            model.encode_text(tokens, normalize=True), ours.encode_texts(["a photo of a tree."])
        )
    export_checkpoint(str(tmp_path / "ours"), tmp_path / "full.pt", layout="open_clip_prompts")
    with pytest.raises(RuntimeError, match="mask_embedding"):
        open_clip.create_model_and_transforms(
            "tiny-published", pretrained=str(tmp_path / "full.pt")
        )
    # our own loader takes both by name
    assert load_clip(f"tiny-published/{tmp_path / 'full.pt'}").prompt_depth == 3
    assert load_clip(f"tiny-published/{tmp_path / 'plain.pt'}").prompt_depth == 0


def test_an_openai_archive(tmp_path: Path, monkeypatch):
    state = clip_state(prompts=0)
    source = save_archive(state, tmp_path / "ViT.pt")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the archive's program was loaded")

    monkeypatch.setattr(torch.jit, "load", forbidden)
    record = import_checkpoint(source, tmp_path / "ours")
    assert set(record.dropped) == {"input_resolution", "context_length", "vocab_size"}
    assert record.layout == "TorchScript archive" and record.tensors == len(state)
    expected = {n: t.half().float() if t.ndim > 1 else t for n, t in state.items()}
    same(load_clip(str(tmp_path / "ours")).checkpoint_state(), expected)
    export_checkpoint(str(tmp_path / "ours"), tmp_path / "a.pt", layout="open_clip")
    stored = {n: t.half() if t.ndim > 1 else t for n, t in state.items()}
    same(read(tmp_path / "a.pt", "state_dict"), prefixed(stored, "module."))


def test_bare_weights_and_another_activation(tmp_path: Path):
    state = clip_state(prompts=2)
    torch.save(state, tmp_path / "bare.pth")
    save_file(state, tmp_path / "bare.safetensors")
    for name in ("bare.pth", "bare.safetensors"):
        import_checkpoint(tmp_path / name, tmp_path / f"from-{name}")
        same(load_clip(str(tmp_path / f"from-{name}")).checkpoint_state(), state)
    record = import_checkpoint(tmp_path / "bare.pth", tmp_path / "gelu", quick_gelu=False)
    assert any("GELU" in note and "QuickGELU" not in note for note in record.notes)
    blocks = load_clip(str(tmp_path / "gelu")).clip.visual.transformer.resblocks
    assert isinstance(blocks[0].mlp.gelu, nn.GELU)


def test_rounding_as_the_official_loader_does_is_asked_for_by_name(tmp_path: Path):
    state = clip_state()
    save_training(state, tmp_path / "a.pt")
    record = import_checkpoint(tmp_path / "a.pt", tmp_path / "a", fp16_rounding=True)
    assert any("rounded" in note for note in record.notes)
    found = load_clip(str(tmp_path / "a")).checkpoint_state()
    assert torch.equal(found["visual.proj"], state["visual.proj"].half().float())
    assert torch.equal(found["visual.mask_embedding"], state["visual.mask_embedding"])
    save_ovseg(ovseg_state(), tmp_path / "b.pth")
    with pytest.raises(OvsegError, match="the official loader does not round it"):
        import_checkpoint(tmp_path / "b.pth", tmp_path / "b", fp16_rounding=True, **SMALL)


@pytest.mark.parametrize(
    ("architecture", "prompts", "count"),
    [("ViT-L-14", (3, 256, 1024), 447), ("ViT-B-16", (3, 196, 768), 303)],
)
def test_full_size_clips_are_told_from_their_shapes(architecture: str, prompts, count: int):
    with torch.device("meta"):
        model = create_clip(open_clip.get_model_config(architecture), prompt_depth=3)
    state = model.checkpoint_state()
    assert len(state) == count and tuple(state["visual.mask_embedding"].shape) == prompts
    assert stock_architecture(clip_configuration(state, quick_gelu=False)) == architecture
    quick = clip_configuration(state, quick_gelu=True)
    assert stock_architecture(quick) == f"{architecture}-quickgelu"


def test_exports_that_cannot_be(imported: Path, tmp_path: Path):
    (tmp_path / "there.pt").write_text("x")
    for words, arguments in (
        ("already exists", {"out": tmp_path / "there.pt"}),
        ("does not exist", {"out": tmp_path / "no" / "a.pt"}),
        ("unknown layout 'x'", {"out": tmp_path / "a.pt", "layout": "x"}),
        ("is only for --layout ovseg", {"out": tmp_path / "a.pt", "clip": "storybook"}),
    ):
        with pytest.raises(OvsegError, match=words):
            export_checkpoint(str(imported), **arguments)
    with pytest.raises(OvsegError, match=r"config\.json is missing"):
        export_checkpoint(str(imported / "clip"), tmp_path / "a.pth", layout="ovseg")
    with pytest.raises(OvsegError, match="is not the folder of a CLIP"):
        export_checkpoint("ViT-B-32/openai", tmp_path / "a.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt"]
