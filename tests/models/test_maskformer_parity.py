"""The class-embedding network against the official implementation's recorded models.

Swin and the deep-stem ResNet: every intermediate, the head, padding, training losses, gradients,
the optimiser's groups and three of its steps.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from ovseg.models.checkpoints.maskformer_names import open_vocabulary_names
from ovseg.models.checkpoints.maskformer_weights import (
    from_official,
    official_architecture,
    to_official,
)
from ovseg.models.maskformer.open_vocabulary import (
    Architecture,
    LayerOutput,
    OpenVocabularyMaskFormer,
)
from ovseg.models.preprocessing import mask_probabilities, pad_batch
from ovseg.training.segmentation.criterion import CriterionResult, Prediction, criterion
from ovseg.training.segmentation.matching import Target
from ovseg.training.segmentation.recipes import SegmentationConfig
from ovseg.training.segmentation.trainer import freeze_backbone, network_groups

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STAGES = ("res2", "res3", "res4", "res5")
EXACT = 1e-5  # room for another order of sums on other hardware; measured are 2e-6 and less
CLASSES = 7
SETTINGS = {  # of the recorded models; what no tensor's shape tells is set by hand
    "swin": {"decoder_heads": 4, "drop_path": 0.0, "dropout": 0.0},
    "resnet": {"decoder_heads": 4, "dropout": 0.0},
}
FROZEN = {"swin": 0, "resnet": 2}


@pytest.fixture(scope="module")
def folder(reference_data: Path) -> Path:
    return reference_data / "golden" / "open_vocab_maskformer"


@pytest.fixture(scope="module", params=["swin", "resnet"])
def which(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def recorded(folder: Path, which: str) -> dict[str, Tensor]:
    return load_file(folder / f"{which}.io.safetensors")


@pytest.fixture(scope="module")
def images(folder: Path) -> list:
    """The recorded images as the networks got them, (H, W, 3) uint8; the same for both networks."""
    inputs = load_file(folder / "swin.io.safetensors")
    return [inputs[f"input{i}.image_u8"].permute(1, 2, 0).numpy() for i in (0, 1)]


@pytest.fixture(scope="module")
def published(folder: Path, which: str) -> dict[str, Tensor]:
    return load_file(folder / f"{which}.weights.safetensors")


@pytest.fixture(scope="module")
def architecture(published: dict[str, Tensor], which: str) -> Architecture:
    return official_architecture(published).model_copy(update=SETTINGS[which])


@pytest.fixture
def network(published: dict[str, Tensor], architecture: Architecture) -> OpenVocabularyMaskFormer:
    network = OpenVocabularyMaskFormer(architecture)
    state, _ = from_official(published, architecture)
    network.load_state_dict(state)
    return network.eval()


def test_dimensions_are_read_from_the_tensors(architecture: Architecture, which: str) -> None:
    backbone = {
        "swin": {"depths": (2, 1, 2, 1), "heads": (1, 2, 4, 8), "window": 7},
        "resnet": {"depths": (3, 4, 6, 3), "heads": (), "stem_dim": 16},
    }[which]
    assert architecture == Architecture(
        backbone={"swin": "swin", "resnet": "resnet_deep_stem"}[which],
        backbone_dim=16,
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
        **backbone,
    )


def test_weights_come_back_bit_for_bit(
    published: dict[str, Tensor], network: OpenVocabularyMaskFormer, which: str, agrees
) -> None:
    back = to_official(network.state_dict(), network.architecture, num_classes=CLASSES)
    ignored = ("clip_adapter.clip_model.", "clip_adapter.pixel_")
    assert set(back) == {name for name in published if not name.startswith(ignored)}
    differing = [name for name in back if not torch.equal(back[name], published[name])]
    agrees(f"open_vocab_maskformer/{which}", "weights there and back", differing, [], tolerance=0)


# --------------------------------------------------------------------------------------
# Forward


def test_every_stage_agrees(
    network: OpenVocabularyMaskFormer, recorded, images, which: str, agrees
) -> None:
    case = f"open_vocab_maskformer/{which}"
    pixels = pad_batch(images[:1], MEAN, STD)
    agrees(case, "pixels", pixels, recorded["img0.padded_normalized_input"], tolerance=EXACT)
    transformer = network.model.transformer_module
    with torch.no_grad():
        features = network.model.pixel_level_module(pixels, output_hidden_states=True)
        for stage, found in zip(STAGES, features.encoder_hidden_states, strict=True):
            agrees(
                case,
                f"backbone {stage}",
                found,
                recorded[f"img0.backbone.{stage}"],
                tolerance=EXACT,
            )
        mask_features = features.decoder_last_hidden_state
        agrees(
            case, "mask features", mask_features, recorded["img0.mask_features"], tolerance=EXACT
        )
        memory = transformer.input_projection(features.encoder_last_hidden_state)
        agrees(case, "projected res5", memory, recorded["img0.decoder.memory"], tolerance=EXACT)
        position = transformer.position_embedder(memory.shape, memory.device, memory.dtype)
        position = position.view_as(memory)
        agrees(case, "position embedding", position, recorded["img0.pos_embed"], tolerance=EXACT)
        states = torch.stack(network._decode(features.encoder_last_hidden_state))
        agrees(case, "decoder states", states, recorded["img0.decoder.hs_LBQC"], tolerance=EXACT)
        out = network(pixels, with_aux=True)
    for prefix, layer in (("", out), ("aux0.", out.aux[0]), ("aux1.", out.aux[1])):
        label = {"": "last layer", "aux0.": "layer 0", "aux1.": "layer 1"}[prefix]
        embedded = recorded[f"img0.head.{prefix}pred_class_embed"]
        masks = recorded[f"img0.head.{prefix}pred_masks"]
        agrees(
            case, f"class embeddings, {label}", layer.class_embeddings, embedded, tolerance=EXACT
        )
        agrees(case, f"mask logits, {label}", layer.mask_logits, masks, tolerance=EXACT)


def test_class_logits_and_upsampled_masks_agree(
    network: OpenVocabularyMaskFormer, recorded, images, which: str, agrees
) -> None:
    case = f"open_vocab_maskformer/{which}"
    pixels = pad_batch(images[:1], MEAN, STD)
    with torch.no_grad():
        out = network(pixels)
        logits = network.class_logits(out.class_embeddings, recorded["text_features_K+1"][:-1])
    agrees(case, "class logits", logits, recorded["img0.pred_logits_T100"], tolerance=EXACT)
    agrees(
        case, "class logits", logits[0], recorded["img0.sem_in0.mask_cls_logits"], tolerance=EXACT
    )
    assert torch.equal(logits.argmax(-1), recorded["img0.pred_logits_T100"].argmax(-1))
    non_object = F.normalize(network.non_object_embedding, dim=-1)
    agrees(case, "non-object row", non_object, recorded["text_features_K+1"][-1:], tolerance=EXACT)
    size = images[0].shape[:2]
    masks = mask_probabilities(out.mask_logits[0], pixels.shape[-2:], size, size)
    expected = recorded["img0.sem_in0.mask_pred_logits"].sigmoid()
    agrees(case, "mask probabilities at full size", masks, expected, tolerance=EXACT)
    valid = (masks > 0.5).flatten(1).any(1)
    agrees(case, "valid masks", valid, recorded["img0.sem_in0.valid"], tolerance=0)


@pytest.mark.parametrize("which", ["swin"], indirect=True)  # the only one it is recorded for
def test_another_image_and_a_batch_padded_together_agree(
    network: OpenVocabularyMaskFormer, recorded, images, which: str, agrees
) -> None:
    for name, batch in (("img1", images[1:]), ("batch", images)):
        case = f"open_vocab_maskformer/{which} {name}"
        with torch.no_grad():
            pixels = pad_batch(batch, MEAN, STD)
            features = network.model.pixel_level_module(pixels).encoder_last_hidden_state
            out = network(pixels)
        res5 = recorded[f"{name}.backbone.res5"]
        embedded, masks = (recorded[f"{name}.head.pred_{w}"] for w in ("class_embed", "masks"))
        agrees(case, "backbone res5", features, res5, tolerance=EXACT)
        agrees(case, "class embeddings", out.class_embeddings, embedded, tolerance=EXACT)
        agrees(case, "mask logits", out.mask_logits, masks, tolerance=EXACT)
        logits = network.class_logits(out.class_embeddings, recorded["text_features_K+1"][:-1])
        for i, mine in enumerate(logits):
            expected = recorded[f"{name}.sem_in{i}.mask_cls_logits"]
            agrees(case, "class logits", mine, expected, tolerance=EXACT)
            assert torch.equal(mine.argmax(-1), expected.argmax(-1))


# --------------------------------------------------------------------------------------
# Training


def _loss(network: OpenVocabularyMaskFormer, recorded, images) -> CriterionResult:
    """The recorded training step's forward pass."""
    text = recorded["text_features_K+1"][:-1]

    def predict(layer: LayerOutput) -> Prediction:
        return Prediction(network.class_logits(layer.class_embeddings, text), layer.mask_logits)

    pixels = pad_batch(images, MEAN, STD)
    out = network(pixels, with_aux=True)
    targets = []
    for b in (0, 1):
        masks = recorded[f"train.target{b}.masks"]
        # upstream pads the targets as it pads the pixels, before matching
        below, right = (p - m for p, m in zip(pixels.shape[-2:], masks.shape[-2:]))
        masks = F.pad(masks, (0, right, 0, below))
        targets.append(Target(recorded[f"train.target{b}.labels"], masks))
    return criterion(predict(out), [predict(layer) for layer in out.aux], targets)


def _weighted(result: CriterionResult) -> dict[str, float]:
    return {
        name: (20 if "mask" in name else 1) * term.item() for name, term in result.terms.items()
    }


def _config(expected: dict, architecture: Architecture) -> SegmentationConfig:
    return SegmentationConfig(
        architecture=architecture,
        learning_rate=expected["base_lr"],
        weight_decay=expected["weight_decay"],
        backbone_multiplier=expected["backbone_multiplier"],
        clip_norm=expected["clip_norm"],
    )


def _compare_losses(agrees, case: str, what: str, result: CriterionResult, expected: dict) -> None:
    found, losses = _weighted(result), expected.get("losses_weighted", expected.get("losses"))
    assert set(found) == set(losses)
    mine = torch.tensor([found[name] for name in losses])
    agrees(case, what, mine, torch.tensor(list(losses.values())), tolerance=1e-5)
    total = torch.tensor(expected["total"])
    agrees(case, f"{what}, total", result.total.detach(), total, tolerance=1e-5)


def test_training_losses_and_gradients_agree(
    network: OpenVocabularyMaskFormer, recorded, images, folder: Path, which: str, agrees
) -> None:
    case = f"open_vocab_maskformer/{which}.train"
    expected = json.loads((folder / f"{which}.train.json").read_text())
    freeze_backbone(network, FROZEN[which])
    network.train()
    result = _loss(network, recorded, images)
    _compare_losses(agrees, case, "losses", result, expected)

    torch.autograd.backward(result.total)
    names = open_vocabulary_names(network.architecture)
    parameters = dict(network.named_parameters())

    def gradient(official: str) -> Tensor:
        return torch.cat([parameters[mine].grad for mine in names[official]])

    compared = 0
    for name, tensor in recorded.items():
        if name.startswith("train.grad."):
            agrees(case, "gradients", gradient(name[len("train.grad.") :]), tensor, tolerance=1e-4)
            compared += 1
    assert compared >= 8
    norms = expected["grad_l2_norms"]
    found = torch.stack([gradient(name).double().norm() for name in norms])
    agrees(case, "gradient norms", found, torch.tensor(list(norms.values())), tolerance=1e-4)
    trained = {name for name in parameters if parameters[name].grad is not None}
    assert trained == {mine for official in norms for mine in names[official]}


def test_learning_rates_and_decay_agree(
    network: OpenVocabularyMaskFormer, folder: Path, which: str, agrees
) -> None:
    expected = json.loads((folder / f"{which}.optim.json").read_text())
    freeze_backbone(network, FROZEN[which])
    groups = network_groups(network, _config(expected, network.architecture))
    found = {
        id(parameter): [group["lr"], group["weight_decay"]]
        for group in groups
        for parameter in group["params"]
    }
    parameters = dict(network.named_parameters())
    names = open_vocabulary_names(network.architecture)
    grouped = {mine for official in expected["param_lr_wd"] for mine in names[official]}
    unused = "model.pixel_level_module.encoder.model.layernorm."  # gets no gradient
    assert {name for name in parameters if id(parameters[name]) in found} - grouped == {
        name for name in parameters if name.startswith(unused)
    }
    for official, values in expected["param_lr_wd"].items():
        for mine in names[official]:
            agrees(
                f"open_vocab_maskformer/{which}.optim",
                "learning rate and decay of every parameter",
                torch.tensor(found[id(parameters[mine])], dtype=torch.float64),
                torch.tensor(values, dtype=torch.float64),
                tolerance=1e-12,
            )


def test_three_training_steps_agree(
    network: OpenVocabularyMaskFormer, recorded, images, folder: Path, which: str, agrees
) -> None:
    """AdamW with the whole model's gradient clipped to 0.01, as `train_segmentation` does it."""
    case = f"open_vocab_maskformer/{which}.optim"
    expected = json.loads((folder / f"{which}.optim.json").read_text())
    config = _config(expected, network.architecture)
    freeze_backbone(network, FROZEN[which])
    optimizer = torch.optim.AdamW(network_groups(network, config))
    network.train()
    for number, step in enumerate(expected["steps(loss before each step)"]):
        optimizer.zero_grad()
        result = _loss(network, recorded, images)
        _compare_losses(agrees, case, f"losses before step {number + 1}", result, step)
        torch.autograd.backward(result.total)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        before = torch.tensor(step["grad_norm_before_clip"])
        agrees(case, "gradient norm before clipping", norm, before, tolerance=1e-4)
        optimizer.step()
    state = to_official(network.state_dict(), network.architecture, num_classes=CLASSES)
    after = load_file(folder / f"{which}.optim3.safetensors")
    assert len(after) == 3
    for name, tensor in after.items():
        agrees(case, "weights after 3 steps", state[name], tensor, tolerance=1e-5)
