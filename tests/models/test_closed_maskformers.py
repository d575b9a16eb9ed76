"""MaskFormers with a vocabulary of their own: from detectron2's names to outputs, and folders.

The networks with a ResNet are compared with detectron2's arithmetic written out here in torch
functions, from the tensors by detectron2's names.
"""

from pathlib import Path

import pytest
import torch
from published_weights import SWIN, same, save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import MaskFormerForInstanceSegmentation

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.closed_maskformers import write_closed
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.checkpoints.importing import import_checkpoint
from ovseg.models.checkpoints.maskformer_names import shared_names
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.open_vocabulary import R101C

HEADS, QUERIES, CLASSES, WIDTH, LAYERS = 4, 6, 5, 32, 2
DEPTHS, STAGES = (1, 2, 1, 3), (16, 32, 64, 128)

# ------------------------------------------------------------------------------------------- Swin


def closed_state() -> tuple[dict[str, Tensor], MaskFormerForInstanceSegmentation]:
    """A small closed-vocabulary MaskFormer under detectron2's names, and the model itself."""
    torch.manual_seed(3)
    config = SWIN.model_copy(update={"decoder_heads": 4}).transformers_config()
    config.num_labels = 5
    network = MaskFormerForInstanceSegmentation(config).eval()
    ours = network.state_dict()
    state = {}
    for name, parts in shared_names(SWIN).items():
        in_transformers = [
            f"mask_embedder.{part.split('.')[2]}.0.{part.split('.')[3]}"
            if part.startswith("mask_embed.")
            else part
            for part in parts
        ]
        state[name] = torch.cat([ours[part] for part in in_transformers])
    for kind in ("weight", "bias"):
        state[f"sem_seg_head.predictor.class_embed.{kind}"] = ours[f"class_predictor.{kind}"]
    state["criterion.empty_weight"] = torch.tensor([1.0] * 5 + [0.1])
    return state, network


def test_a_closed_maskformer_of_the_model_zoo(tmp_path: Path):
    state, network = closed_state()
    content = {"model": state, "__author__": "somebody"}
    source = save_arrays(content, tmp_path / "model_final.pkl")
    record = import_checkpoint(source, tmp_path / "ours", decoder_heads=4)
    assert set(record.dropped) == {"__author__", "criterion.empty_weight"}
    assert record.tensors == len(state) - 1
    loaded = load_maskformer(str(tmp_path / "ours"))
    assert loaded.inputs.mean == pytest.approx((123.675, 116.28, 103.53))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(pixels), loaded.network(pixels)
    assert torch.equal(found.class_queries_logits, expected.class_queries_logits)
    assert torch.equal(found.masks_queries_logits, expected.masks_queries_logits)
    with pytest.raises(OvsegError, match="vocabulary of its own"):
        export_checkpoint(
            str(tmp_path / "ours"), tmp_path / "a.pth", layout="ovseg", clip="storybook"
        )
    del state["backbone.norm0.bias"]
    with pytest.raises(OvsegError, match=r"lacks backbone\.norm0\.bias"):
        import_checkpoint(save_arrays(content, tmp_path / "b.pkl"), tmp_path / "b")


# ------------------------------------------------------------------------- ResNet, as in detectron2


def detectron2_resnet(*, deep: bool, zoo: bool = True) -> dict[str, Tensor]:
    """Tensors of a small closed-vocabulary MaskFormer with a ResNet, all random.

    Args:
        deep: with the stem of ResNet-101c.
        zoo: the pixel decoder stands in the head itself, as in the files of the model zoo.
    """
    generator = torch.Generator().manual_seed(5)
    state: dict[str, Tensor] = {}

    def draw(name: str, *shape: int, around: float = 0.0) -> None:
        scale = 1 / max(1, torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.3
        state[name] = around + scale * torch.randn(shape, generator=generator)

    def frozen(name: str, outputs: int, inputs: int, kernel: int) -> None:
        draw(f"{name}.weight", outputs, inputs, kernel, kernel)
        draw(f"{name}.norm.weight", outputs, around=1.0)
        draw(f"{name}.norm.bias", outputs)
        draw(f"{name}.norm.running_mean", outputs)
        state[f"{name}.norm.running_var"] = 0.5 + torch.rand(outputs, generator=generator)

    def linear(name: str, outputs: int, inputs: int) -> None:
        draw(f"{name}.weight", outputs, inputs)
        draw(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        draw(f"{name}.weight", WIDTH, around=1.0)
        draw(f"{name}.bias", WIDTH)

    if deep:
        frozen("backbone.stem.conv1", 4, 3, 3)
        frozen("backbone.stem.conv2", 4, 4, 3)
        frozen("backbone.stem.conv3", 8, 4, 3)
    else:
        frozen("backbone.stem.conv1", 8, 3, 7)
    inputs = 8
    for stage, (depth, outputs) in enumerate(zip(DEPTHS, STAGES, strict=True), start=2):
        for block in range(depth):
            place, inner = f"backbone.res{stage}.{block}", outputs // 4
            if block == 0:
                frozen(f"{place}.shortcut", outputs, inputs, 1)
            frozen(f"{place}.conv1", inner, inputs, 1)
            frozen(f"{place}.conv2", inner, inner, 3)
            frozen(f"{place}.conv3", outputs, inner, 1)
            inputs = outputs
    decoder = "sem_seg_head." if zoo else "sem_seg_head.pixel_decoder."
    for index, channels in enumerate(STAGES[:3], start=1):
        draw(f"{decoder}adapter_{index}.weight", WIDTH, channels, 1, 1)
        norm(f"{decoder}adapter_{index}.norm")
        draw(f"{decoder}layer_{index}.weight", WIDTH, WIDTH, 3, 3)
        norm(f"{decoder}layer_{index}.norm")
    draw(f"{decoder}layer_4.weight", WIDTH, STAGES[3], 3, 3)
    norm(f"{decoder}layer_4.norm")
    draw(f"{decoder}mask_features.weight", 24, WIDTH, 3, 3)
    draw(f"{decoder}mask_features.bias", 24)
    predictor = "sem_seg_head.predictor."
    draw(f"{predictor}query_embed.weight", QUERIES, WIDTH)
    draw(f"{predictor}input_proj.weight", WIDTH, STAGES[3], 1, 1)
    draw(f"{predictor}input_proj.bias", WIDTH)
    for layer in range(LAYERS):
        place = f"{predictor}transformer.decoder.layers.{layer}"
        for attention in ("self_attn", "multihead_attn"):
            draw(f"{place}.{attention}.in_proj_weight", 3 * WIDTH, WIDTH)
            draw(f"{place}.{attention}.in_proj_bias", 3 * WIDTH)
            linear(f"{place}.{attention}.out_proj", WIDTH, WIDTH)
        linear(f"{place}.linear1", 48, WIDTH)
        linear(f"{place}.linear2", WIDTH, 48)
        for index in (1, 2, 3):
            norm(f"{place}.norm{index}")
    norm(f"{predictor}transformer.decoder.norm")
    linear(f"{predictor}class_embed", CLASSES + 1, WIDTH)
    for index, outputs in enumerate((WIDTH, WIDTH, 24)):
        linear(f"{predictor}mask_embed.layers.{index}", outputs, WIDTH)
    state["criterion.empty_weight"] = torch.tensor([1.0] * CLASSES + [0.1])
    return state


def sine(height: int, width: int) -> Tensor:
    """The position of every place of a map, (1, WIDTH, height, width)."""
    half = WIDTH // 2
    frequencies = 10000 ** (2 * (torch.arange(half) // 2) / half)
    parts = []
    for count, shape in ((height, (height, 1)), (width, (1, width))):
        place = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6) * 2 * torch.pi
        angles = place.view(*shape, 1) / frequencies
        both = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)
        parts.append(both.expand(height, width, half))
    return torch.cat(parts, dim=-1).permute(2, 0, 1)[None]


def as_in_detectron2(state: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits (B, Q, K + 1) and mask logits (B, Q, H/4, W/4), written out."""

    def frozen(name: str, x: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        x = F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation)
        norm = {k: state[f"{name}.norm.{k}"].view(1, -1, 1, 1) for k in
                ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
        scale = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
        return x * scale + norm["bias"] - norm["running_mean"] * scale

    def grouped(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        x = F.conv2d(x, weight, None, 1, weight.shape[-1] // 2)
        return F.group_norm(x, 32, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])

    def attention(name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights, biases = (state[f"{name}.in_proj_{k}"].chunk(3) for k in ("weight", "bias"))
        query, key, value = (
            F.linear(x, w, b).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        scores = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return linear(f"{name}.out_proj", (scores @ value).transpose(1, 2).flatten(-2))

    deep = "backbone.stem.conv3.weight" in state
    x = frozen("backbone.stem.conv1", pixels, stride=2).relu()
    for conv in ("conv2", "conv3") if deep else ():
        x = frozen(f"backbone.stem.{conv}", x).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage, depth in enumerate(DEPTHS, start=2):
        for block in range(depth):
            place, stride = f"backbone.res{stage}.{block}", 2 if stage > 2 and block == 0 else 1
            dilation = (1, 2, 4)[block] if deep and stage == 5 else 1
            rest = frozen(f"{place}.shortcut", x, stride=stride) if block == 0 else x
            x = frozen(f"{place}.conv1", x).relu()
            x = frozen(f"{place}.conv2", x, stride=stride, dilation=dilation).relu()
            x = (frozen(f"{place}.conv3", x) + rest).relu()
        maps.append(x)
    decoder = "sem_seg_head." if "sem_seg_head.layer_4.weight" in state else (
        "sem_seg_head.pixel_decoder.")  # fmt: skip
    y = grouped(f"{decoder}layer_4", maps[3]).relu()
    for index in (3, 2, 1):
        side = grouped(f"{decoder}adapter_{index}", maps[index - 1])
        y = side + F.interpolate(y, size=side.shape[-2:], mode="nearest")
        y = grouped(f"{decoder}layer_{index}", y).relu()
    features, projection = f"{decoder}mask_features", "sem_seg_head.predictor.input_proj"
    y = F.conv2d(y, state[f"{features}.weight"], state[f"{features}.bias"], padding=1)
    memory = F.conv2d(maps[3], state[f"{projection}.weight"], state[f"{projection}.bias"])
    position = sine(*memory.shape[-2:]).flatten(2).transpose(1, 2)
    memory = memory.flatten(2).transpose(1, 2)
    queries = state["sem_seg_head.predictor.query_embed.weight"][None]
    target = torch.zeros(len(pixels), QUERIES, WIDTH)
    for layer in range(LAYERS):
        place = f"sem_seg_head.predictor.transformer.decoder.layers.{layer}"
        asked = target + queries
        target = norm(f"{place}.norm1", target + attention(
            f"{place}.self_attn", asked, asked, target))  # fmt: skip
        target = norm(f"{place}.norm2", target + attention(
            f"{place}.multihead_attn", target + queries, memory + position, memory))  # fmt: skip
        inner = linear(f"{place}.linear1", target).relu()
        target = norm(f"{place}.norm3", target + linear(f"{place}.linear2", inner))
    target = norm("sem_seg_head.predictor.transformer.decoder.norm", target)
    embedded = target
    for index in range(3):
        embedded = linear(f"sem_seg_head.predictor.mask_embed.layers.{index}", embedded)
        embedded = embedded.relu() if index < 2 else embedded
    masks = torch.einsum("bqc,bchw->bqhw", embedded, y)
    return linear("sem_seg_head.predictor.class_embed", target), masks


@pytest.mark.parametrize("zoo", [True, False], ids=["model zoo", "later"])
@pytest.mark.parametrize("deep", [False, True], ids=["R50", "R101c"])
def test_a_resnet_gives_what_detectron2_computes(deep: bool, zoo: bool, tmp_path: Path):
    state = detectron2_resnet(deep=deep, zoo=zoo)
    counter = "backbone.res2.0.conv1.norm.num_batches_tracked"
    extra = {
        counter: torch.tensor(7),
        "pixel_mean": torch.tensor([[[120.0]], [[110.0]], [[100.0]]]),
        "pixel_std": torch.tensor([[[50.0]], [[51.0]], [[52.0]]]),
    }
    source = save_arrays({"model": state | extra, "__author__": "x"}, tmp_path / "model_final.pkl")
    record = import_checkpoint(source, tmp_path / "ours", decoder_heads=HEADS)
    assert set(record.dropped) == {"__author__", "criterion.empty_weight", *extra}
    assert record.tensors == len(state) - 1
    assert any("3x3 convolutions" in note for note in record.notes)
    loaded = load_maskformer(str(tmp_path / "ours"))
    assert loaded.inputs.mean == pytest.approx((120, 110, 100))
    assert loaded.inputs.std == pytest.approx((50, 51, 52))
    pixels = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        classes, masks = as_in_detectron2(state, pixels)
        found = loaded.network(pixels)
    torch.testing.assert_close(found.class_queries_logits, classes, rtol=0, atol=2e-5)
    assert (found.masks_queries_logits - masks).abs().max() < 2e-5 * masks.abs().max()
    assert masks.std(dim=(0, 2, 3)).min() > 1e-3  # queries and places differ


@pytest.mark.parametrize(
    ("backbone", "stem", "depths", "tensors"),
    [
        ("resnet_bottleneck", 64, (3, 4, 6, 3), 265),
        ("resnet_bottleneck", 64, (3, 4, 23, 3), 520),
        ("resnet_deep_stem", 128, (3, 4, 23, 3), 530),
    ],
    ids=["R50", "R101", "R101c"],
)
def test_names_at_the_published_sizes(backbone, stem, depths, tensors):
    architecture = R101C.model_copy(
        update={"backbone": backbone, "stem_dim": stem, "depths": depths}
    )
    names = shared_names(architecture)
    assert sum(name.startswith("backbone.") for name in names) == tensors
    if backbone == "resnet_deep_stem":
        return
    with torch.device("meta"):
        network = MaskFormerForInstanceSegmentation(architecture.transformers_config())
    made = (".num_batches_tracked", "criterion.empty_weight")
    other = ("mask_embedder.", "class_predictor.")
    theirs = {n for n in network.state_dict() if not n.endswith(made) and not n.startswith(other)}
    ours = {part for parts in names.values() for part in parts}
    assert {name for name in ours if not name.startswith("mask_embed.")} == theirs


def test_a_deep_stem_gives_the_recorded_masks(reference_data: Path, tmp_path: Path, agrees):
    """The recorded ResNet with a class head of its own: masks do not depend on the head."""
    folder = reference_data / "golden" / "open_vocab_maskformer"
    recorded = load_file(folder / "resnet.io.safetensors")
    head = "sem_seg_head.predictor.class_embed."
    state = {
        name: tensor
        for name, tensor in load_file(folder / "resnet.weights.safetensors").items()
        if name.startswith(("backbone.", "sem_seg_head.")) and not name.startswith(head)
    }
    state |= {f"{head}weight": torch.ones(4, 32), f"{head}bias": torch.zeros(4)}
    write_closed(state, tmp_path / "closed", decoder_heads=4)
    network = load_maskformer(str(tmp_path / "closed")).network
    with torch.no_grad():
        masks = network(recorded["img0.padded_normalized_input"]).masks_queries_logits
    agrees(
        "open_vocab_maskformer/resnet, closed",
        "mask logits",
        masks,
        recorded["img0.head.pred_masks"],
        tolerance=1e-5,
    )


def test_closed_maskformers_that_cannot_be_read(tmp_path: Path):
    state = detectron2_resnet(deep=True)
    encoder = "sem_seg_head.transformer.encoder.layers.0.norm1.bias"
    basic = {n: t for n, t in state.items() if ".conv3." not in n and ".conv3" not in n}
    cases = {
        "R50 \\+ 6 Enc": state | {encoder: torch.zeros(WIDTH)},
        r"lacks backbone\.stem\.conv1\.weight": {
            n: t for n, t in state.items() if not n.startswith("backbone.")
        },
        r"lacks backbone\.res2\.0\.conv3\.weight.*ResNet-50": basic,
        r"lacks backbone\.res3\.1\.conv2\.norm\.running_var": {
            n: t for n, t in state.items() if n != "backbone.res3.1.conv2.norm.running_var"
        },
        r"unknown backbone\.res3\.1\.conv2\.bias": state
        | {"backbone.res3.1.conv2.bias": torch.zeros(8)},
        r"other shapes or types: .*encoder\.stages\.1\.1\.conv2\.conv\.weight": state
        | {"backbone.res3.1.conv2.weight": torch.zeros(9, 8, 3, 3)},
        "impossible shapes": state
        | {"sem_seg_head.predictor.query_embed.weight": torch.zeros(WIDTH)},
    }
    for number, (message, content) in enumerate(cases.items()):
        source = save_arrays({"model": content}, tmp_path / f"{number}.pkl")
        with pytest.raises(OvsegError, match=message) as caught:
            import_checkpoint(source, tmp_path / "out", decoder_heads=HEADS)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------ a folder


def test_a_transformers_folder(tmp_path: Path):
    _, network = closed_state()
    network.save_pretrained(tmp_path / "hub")
    record = import_checkpoint(tmp_path / "hub", tmp_path / "ours")
    assert record.layout == "transformers folder" and record.tensors == len(network.state_dict())
    loaded = load_maskformer(str(tmp_path / "ours"))
    same(dict(loaded.network.state_dict()), dict(network.state_dict()))
    weights = load_file(tmp_path / "hub" / "model.safetensors")
    weights.pop("class_predictor.bias")
    save_file(weights, tmp_path / "hub" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OvsegError, match=r"missing class_predictor\.bias"):
        import_checkpoint(tmp_path / "hub", tmp_path / "again")
    (tmp_path / "hub" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(OvsegError, match="holds a bert model"):
        import_checkpoint(tmp_path / "hub", tmp_path / "again")
    (tmp_path / "hub" / "config.json").unlink()
    with pytest.raises(OvsegError, match=r"config\.json is missing"):
        import_checkpoint(tmp_path / "hub", tmp_path / "again")
