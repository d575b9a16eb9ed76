"""Small weights with random numbers, named and stored as the published ones are."""

from __future__ import annotations

import functools
import json
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.models.checkpoints.clip_names import OVSEG_PREFIX, buffer_of, prefixed
from ovseg.models.checkpoints.maskformer_weights import to_official
from ovseg.models.clip.load import create_clip
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer

CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
DIMENSIONS = {
    "depths": (1, 1, 2, 1),
    "feature_dim": 32,
    "mask_dim": 24,
    "query_dim": 32,
    "queries": 6,
    "decoder_layers": 2,
    "decoder_ffn": 48,
    "class_hidden_dim": 20,
    "embedding_dim": 16,
}
SWIN = Architecture(backbone_dim=8, heads=(1, 2, 2, 4), window=4, drop_path=0.3, **DIMENSIONS)
RESNET = Architecture(
    backbone="resnet_deep_stem", backbone_dim=32, stem_dim=8, heads=(), drop_path=0.0, **DIMENSIONS
)
BOTTLENECK = RESNET.model_copy(update={"backbone": "resnet_bottleneck"})
NAMES = ["house", "tree"]
SMALL = {"class_names": NAMES, "decoder_heads": 4}
"""What no file says of the small MaskFormers."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip_state(*, prompts: int = 3) -> dict[str, Tensor]:
    """Tensors of a small CLIP under OpenAI's names."""
    return {name: tensor.clone() for name, tensor in _clip(prompts).items()}


@functools.cache
def _clip(prompts: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = create_clip(CLIP, prompt_depth=prompts)
    return {name: tensor.detach() for name, tensor in model.checkpoint_state().items()}


def maskformer_state(architecture: Architecture = SWIN, *, classes: int = 2) -> dict[str, Tensor]:
    """Tensors of a small open-vocabulary MaskFormer under the official names."""
    return {name: tensor.clone() for name, tensor in _maskformer(architecture, classes).items()}


@functools.cache
def _maskformer(architecture: Architecture, classes: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    network = OpenVocabularyMaskFormer(architecture)
    return to_official(network.state_dict(), architecture, num_classes=classes)


def ovseg_state(architecture: Architecture = SWIN, *, classes: int = 2) -> dict[str, Tensor]:
    """Tensors of a small OVSeg checkpoint."""
    statistics = {
        "clip_adapter.pixel_mean": buffer_of(MEAN),
        "clip_adapter.pixel_std": buffer_of(STD),
    }
    state = maskformer_state(architecture, classes=classes)
    return state | statistics | prefixed(clip_state(), OVSEG_PREFIX)


def save_ovseg(state: Mapping[str, Tensor], path: Path) -> Path:
    """Write a state as detectron2 does."""
    torch.save({"model": OrderedDict(state)}, path)
    return path


def save_training(state: Mapping[str, Tensor], path: Path) -> Path:
    """Write a state as open_clip's training does, with what it keeps to go on."""
    optimizer = {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 5e-6}]}
    named = prefixed(state, "module.")
    torch.save(
        {"epoch": 5, "name": "run", "state_dict": named, "optimizer": optimizer, "scaler": {}},
        path,
    )
    return path


def save_arrays(content: object, path: Path, *, protocol: int = 2) -> Path:
    """Write a pickle with every tensor as a numpy array, as detectron2's model zoo does."""

    def arrays(value: object) -> object:
        if isinstance(value, dict):
            return {key: arrays(item) for key, item in value.items()}
        return value.numpy() if isinstance(value, Tensor) else value

    path.write_bytes(pickle.dumps(arrays(content), protocol=protocol))
    return path


def save_archive(state: Mapping[str, Tensor], path: Path) -> Path:
    """Write a TorchScript archive as OpenAI published CLIP: half precision, three numbers more."""
    holder = nn.Module()
    for name, tensor in state.items():
        *places, last = name.split(".")
        owner = holder
        for place in places:
            if not hasattr(owner, place):
                owner.add_module(place, nn.Module())
            owner = getattr(owner, place)
        half = tensor.half() if tensor.ndim > 1 else tensor
        owner.register_parameter(last, nn.Parameter(half.clone()))
    for number in ("input_resolution", "context_length", "vocab_size"):
        holder.register_buffer(number, torch.tensor(32))
    torch.jit.save(torch.jit.script(holder), path)
    return path


def golden_ovseg(folder: Path, case: str) -> dict[str, Tensor]:
    """A recorded small OVSeg model as a whole checkpoint; both cases have one and the same CLIP.

    Args:
        folder: `golden/open_vocab_maskformer` of the reference data.
        case: `swin` or `resnet`.
    """
    state = load_file(folder / f"{case}.weights.safetensors")
    with_clip = load_file(folder / "swin.weights.safetensors")
    state |= {name: tensor for name, tensor in with_clip.items() if name.startswith(OVSEG_PREFIX)}
    rows = f"{OVSEG_PREFIX}token_embedding.weight.rows_"
    index, value = state.pop(f"{rows}index"), state.pop(f"{rows}value")
    table = torch.zeros(49408, value.shape[1])  # only the rows that are used were recorded
    table[index] = value
    return state | {f"{OVSEG_PREFIX}token_embedding.weight": table}


def golden_classes(folder: Path) -> list[str]:
    """The class names of the recorded models."""
    return list(json.loads((folder / "meta.json").read_text())["class_names"])


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert equal names, types and numbers, bit for bit."""
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def read(path: Path, key: str) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)[key]
