"""The class-embedding network against the official implementation's recorded Swin model.

Weights are renamed from the official names to ours; intermediates, the head, training losses and
gradients must then agree.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ovseg.models.class_embedding import Architecture, LayerOutput, OpenVocabularyMaskFormer
from ovseg.models.pixels import pad_batch
from ovseg.training.criterion import CriterionResult, Prediction, criterion
from ovseg.training.matching import Target
from ovseg.training.segmentation import SegmentationConfig, parameter_groups

ARCHITECTURE = Architecture(
    backbone_dim=16,
    depths=(2, 1, 2, 1),
    heads=(1, 2, 4, 8),
    window=7,
    drop_path=0.0,
    feature_dim=64,
    mask_dim=24,
    query_dim=32,
    queries=12,
    decoder_layers=3,
    decoder_heads=4,
    decoder_ffn=48,
    dropout=0.0,
    class_hidden_dim=40,
    embedding_dim=48,
)
NEAR = {"atol": 2e-4, "rtol": 1e-3}
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BACKBONE, FPN = "model.pixel_level_module.encoder.", "model.pixel_level_module.decoder.fpn."
DECODER = "model.transformer_module.decoder."

RENAMED = [
    (r"^clip_adapter\.non_object_embedding$", "non_object_embedding"),
    (r"^backbone\.patch_embed\.proj", f"{BACKBONE}model.embeddings.patch_embeddings.projection"),
    (r"^backbone\.patch_embed\.norm", f"{BACKBONE}model.embeddings.norm"),
    (r"^backbone\.norm(\d)", rf"{BACKBONE}hidden_states_norms.\1"),
    (r"^backbone\.layers", f"{BACKBONE}model.encoder.layers"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.(q|rel)", r".attention.self.\1"),
    (r"(blocks\.\d+)\.norm1", r"\1.layernorm_before"),
    (r"(blocks\.\d+)\.norm2", r"\1.layernorm_after"),
    (r"(blocks\.\d+)\.mlp\.fc1", r"\1.intermediate.dense"),
    (r"(blocks\.\d+)\.mlp\.fc2", r"\1.output.dense"),
    (r"^sem_seg_head\.pixel_decoder\.mask_features", f"{FPN[:-4]}mask_projection"),
    (r"^sem_seg_head\.pixel_decoder\.layer_4\.norm", f"{FPN}stem.1"),
    (r"^sem_seg_head\.pixel_decoder\.layer_4", f"{FPN}stem.0"),
    (r"^sem_seg_head\.predictor\.(class|mask)_embed", r"\1_embed"),
    (r"^sem_seg_head\.predictor\.query_embed", "model.transformer_module.queries_embedder"),
    (r"^sem_seg_head\.predictor\.input_proj", "model.transformer_module.input_projection"),
    (r"^sem_seg_head\.predictor\.transformer\.decoder\.norm", f"{DECODER}layernorm"),
    (r"^sem_seg_head\.predictor\.transformer\.decoder\.", DECODER),
    (r"(decoder\.layers\.\d+)\.linear", r"\1.mlp.fc"),
    (r"(decoder\.layers\.\d+)\.norm1", r"\1.self_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norm2", r"\1.encoder_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norm3", r"\1.final_layer_norm"),
    (r"\.multihead_attn\.", ".encoder_attn."),
    (r"_attn\.out_proj", "_attn.o_proj"),
]


def _our_name(name: str) -> str:
    lateral = re.match(r"^sem_seg_head\.pixel_decoder\.(adapter|layer)_([123])\.(norm\.)?", name)
    if lateral:
        part = "proj" if lateral[1] == "adapter" else "block"
        index = 3 - int(lateral[2])  # ours go from coarse to fine
        kind = 1 if lateral[3] else 0
        return f"{FPN}layers.{index}.{part}.{kind}.{name[lateral.end() :]}"
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _converted(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {}
    for name, tensor in official.items():
        ours = _our_name(name)
        if ours.startswith(("clip_adapter.", "criterion.")):
            continue
        if ".self.qkv." in ours:
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3)):
                state[ours.replace("qkv", part)] = chunk
        elif ".in_proj_" in ours:
            for part, chunk in zip("qkv", tensor.chunk(3)):
                state[ours.replace("in_proj_", f"{part}_proj.")] = chunk
        else:
            state[ours] = tensor
    return state


@pytest.fixture(scope="module")
def folder(reference_data: Path) -> Path:
    return reference_data / "golden" / "open_vocab_maskformer"


@pytest.fixture(scope="module")
def recorded(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "swin.io.safetensors")


@pytest.fixture
def network(folder: Path) -> OpenVocabularyMaskFormer:
    network = OpenVocabularyMaskFormer(ARCHITECTURE)
    state = _converted(load_file(folder / "swin.weights.safetensors"))
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert unexpected == []
    # `transformers` has a final norm, which the features for segmentation do not pass through
    assert all(name.startswith(f"{BACKBONE}model.layernorm") for name in missing)
    return network.eval()


def _images(recorded: dict[str, torch.Tensor]) -> list:
    """The recorded images as the network resizes them; both are at most 640 after the resize."""
    return [recorded[f"input{i}.image_u8"].permute(1, 2, 0).numpy() for i in (0, 1)]


def test_every_stage_agrees(network: OpenVocabularyMaskFormer, recorded) -> None:
    pixels = recorded["img0.padded_normalized_input"]
    torch.testing.assert_close(pad_batch(_images(recorded)[:1], MEAN, STD), pixels)
    with torch.no_grad():
        features = network.model.pixel_level_module(pixels, output_hidden_states=True)
        for stage, found in zip(("res2", "res3", "res4", "res5"), features.encoder_hidden_states):
            torch.testing.assert_close(found, recorded[f"img0.backbone.{stage}"], **NEAR)
        torch.testing.assert_close(
            features.decoder_last_hidden_state, recorded["img0.mask_features"], **NEAR
        )
        out = network(pixels, with_aux=True)
    for prefix, layer in (("", out), ("aux0.", out.aux[0]), ("aux1.", out.aux[1])):
        embedded = recorded[f"img0.head.{prefix}pred_class_embed"]
        torch.testing.assert_close(layer.class_embeddings, embedded, **NEAR)
        torch.testing.assert_close(
            layer.mask_logits, recorded[f"img0.head.{prefix}pred_masks"], **NEAR
        )
    logits = network.class_logits(out.class_embeddings, recorded["text_features_K+1"][:-1])
    torch.testing.assert_close(logits, recorded["img0.pred_logits_T100"].view_as(logits), **NEAR)


def test_a_batch_padded_together_agrees(network: OpenVocabularyMaskFormer, recorded) -> None:
    with torch.no_grad():
        out = network(pad_batch(_images(recorded), MEAN, STD))
    torch.testing.assert_close(
        out.class_embeddings, recorded["batch.head.pred_class_embed"], **NEAR
    )
    torch.testing.assert_close(out.mask_logits, recorded["batch.head.pred_masks"], **NEAR)


def _loss(network: OpenVocabularyMaskFormer, recorded) -> CriterionResult:
    """The recorded training step's forward pass."""
    text = recorded["text_features_K+1"][:-1]

    def predict(layer: LayerOutput) -> Prediction:
        return Prediction(network.class_logits(layer.class_embeddings, text), layer.mask_logits)

    pixels = pad_batch(_images(recorded), MEAN, STD)
    out = network(pixels, with_aux=True)
    targets = []
    for b in (0, 1):
        masks = recorded[f"train.target{b}.masks"]
        # upstream pads the targets as it pads the pixels, before matching
        below, right = (p - m for p, m in zip(pixels.shape[-2:], masks.shape[-2:]))
        masks = torch.nn.functional.pad(masks, (0, right, 0, below))
        targets.append(Target(recorded[f"train.target{b}.labels"], masks))
    return criterion(predict(out), [predict(layer) for layer in out.aux], targets)


def test_training_losses_and_gradients_agree(
    network: OpenVocabularyMaskFormer, recorded, folder: Path
) -> None:
    expected = json.loads((folder / "swin.train.json").read_text())
    network.train()
    result = _loss(network, recorded)
    for name, value in expected["losses_weighted"].items():
        weight = 20 if "mask" in name else 1
        assert weight * result.terms[name].item() == pytest.approx(value, rel=2e-4), name
    assert result.total.item() == pytest.approx(expected["total"], rel=1e-4)

    result.total.backward()
    parameters = dict(network.named_parameters())
    compared = 0
    for name, tensor in recorded.items():
        if name.startswith("train.grad."):
            gradient = parameters[_our_name(name.removeprefix("train.grad."))].grad
            scale = tensor.abs().max().item()
            torch.testing.assert_close(gradient, tensor, atol=1e-3 * scale, rtol=1e-3)
            compared += 1
    assert compared >= 8


def test_learning_rates_and_decay_agree(network: OpenVocabularyMaskFormer, folder: Path) -> None:
    expected = json.loads((folder / "swin.optim.json").read_text())
    config = SegmentationConfig(
        architecture=ARCHITECTURE,
        learning_rate=expected["base_lr"],
        weight_decay=expected["weight_decay"],
        backbone_multiplier=expected["backbone_multiplier"],
    )
    found = {
        id(parameter): [group["lr"], group["weight_decay"]]
        for group in parameter_groups(network, config)
        for parameter in group["params"]
    }
    parameters = dict(network.named_parameters())
    for official, values in expected["param_lr_wd"].items():
        name = _our_name(official).replace(".qkv.", ".query.").replace("in_proj_", "q_proj.")
        assert found[id(parameters[name])] == pytest.approx(values), official


def test_three_training_steps_agree(
    network: OpenVocabularyMaskFormer, recorded, folder: Path
) -> None:
    """AdamW with the whole model's gradient clipped to 0.01, as `train_segmentation` does it."""
    expected = json.loads((folder / "swin.optim.json").read_text())
    config = SegmentationConfig(
        architecture=ARCHITECTURE,
        learning_rate=expected["base_lr"],
        weight_decay=expected["weight_decay"],
        clip_norm=expected["clip_norm"],
    )
    optimizer = torch.optim.AdamW(parameter_groups(network, config))
    network.train()
    for _ in range(3):
        optimizer.zero_grad()
        _loss(network, recorded).total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
    state = network.state_dict()
    after = _converted(load_file(folder / "swin.optim3.safetensors"))
    assert after
    for name, tensor in after.items():
        torch.testing.assert_close(state[name], tensor, atol=2e-6, rtol=1e-4, msg=name)
