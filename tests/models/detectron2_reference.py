"""A closed MaskFormer written out as detectron2 computes it."""

import torch
from torch import Tensor
from torch.nn import functional as F

HEADS, QUERIES, CLASSES, WIDTH, LAYERS = 4, 6, 5, 32, 2
DEPTHS, STAGES = (1, 2, 1, 3), (16, 32, 64, 128)


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
