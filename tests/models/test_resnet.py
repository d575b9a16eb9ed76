"""The deep-stem ResNet: against timm's, and what its frozen norms do in training."""

import pytest
import timm
import torch

from ovseg.errors import OvsegError
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.maskformer.resnet import DeepStemResNet

TINY = Architecture(
    backbone="resnet_deep_stem",
    stem_dim=8,
    backbone_dim=16,
    depths=(1, 2, 1, 3),
    heads=(),
    feature_dim=32,
    mask_dim=8,
    query_dim=16,
    queries=3,
    decoder_layers=2,
    decoder_heads=2,
    decoder_ffn=24,
    dropout=0.0,
    class_hidden_dim=12,
    embedding_dim=10,
)


def _randomised(network: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "norm.weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif "norm." in name:
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))


@pytest.fixture
def backbone() -> DeepStemResNet:
    torch.manual_seed(0)
    network = DeepStemResNet(stem_dim=64, dim=256, depths=(1, 1, 2, 3))
    _randomised(network, seed=1)
    return network


def test_maps_agree_with_those_of_timm(backbone: DeepStemResNet) -> None:
    """It has this stem and these blocks, but no dilation that grows inside a stage."""
    theirs = timm.create_model(
        "resnet50c",
        pretrained=False,
        features_only=True,
        layers=(1, 1, 2, 3),
        out_indices=(1, 2, 3, 4),
    ).eval()
    for block, dilation in zip(theirs["layer4"], (1, 2, 4), strict=True):
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    state = {}
    for name, tensor in backbone.state_dict().items():
        stem = {"stem.conv1": "conv1.0", "stem.conv2": "conv1.3", "stem.conv3": "conv1.6"}
        norms = {"stem.conv1": "conv1.1", "stem.conv2": "conv1.4", "stem.conv3": "bn1"}
        part, kind, last = name.rsplit(".", 2)
        if part in stem:
            place = (stem if kind == "conv" else norms)[part]
        else:
            _, stage, block, conv = part.split(".")
            if conv == "shortcut":
                conv = "downsample.0" if kind == "conv" else "downsample.1"
            elif kind == "norm":
                conv = conv.replace("conv", "bn")
            place = f"layer{int(stage) + 1}.{block}.{conv}"
        state[f"{place}.{last}"] = tensor
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert unexpected == [] and all(name.endswith("num_batches_tracked") for name in missing)
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, expected = backbone(pixels).feature_maps, theirs(pixels)
    assert [tuple(m.shape) for m in found] == [
        (2, 256, 16, 24), (2, 512, 8, 12), (2, 1024, 4, 6), (2, 2048, 2, 3)
    ]  # fmt: skip
    for mine, other in zip(found, expected, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * other.abs().max()


def test_norms_are_frozen(backbone: DeepStemResNet) -> None:
    parameters = {name for name, _ in backbone.named_parameters()}
    assert parameters and all(name.endswith(".conv.weight") for name in parameters)
    buffers = {name for name, _ in backbone.named_buffers()}
    assert {name.rsplit(".", 1)[1] for name in buffers} == {
        "weight", "bias", "running_mean", "running_var"
    }  # fmt: skip
    pixels = torch.randn(1, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in backbone.named_buffers()}
    with torch.no_grad():
        evaluated = backbone.eval()(pixels).feature_maps[-1]
        trained = backbone.train()(pixels).feature_maps[-1]
    assert torch.equal(evaluated, trained)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.named_buffers())


def test_a_frozen_part_gets_no_gradient(backbone: DeepStemResNet) -> None:
    backbone.freeze(2)
    backbone(torch.randn(1, 3, 32, 32)).feature_maps[-1].sum().backward()
    with_gradient = {
        n.split(".conv")[0] for n, p in backbone.named_parameters() if p.grad is not None
    }
    assert with_gradient and not any(n.startswith(("stem", "stages.0")) for n in with_gradient)
    assert any(n.startswith("stages.1") for n in with_gradient)
    with pytest.raises(OvsegError, match="frozen_parts is 6, but the backbone has 5"):
        backbone.freeze(6)


def test_the_network_takes_it_as_its_backbone() -> None:
    torch.manual_seed(0)
    network = OpenVocabularyMaskFormer(TINY).eval()
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        out = network(pixels, with_aux=True)
        reference = network.model(pixels).transformer_decoder_last_hidden_state
    assert out.mask_logits.shape == (1, 3, 16, 24) and len(out.aux) == 1
    torch.testing.assert_close(network.class_embed(reference), out.class_embeddings)
    encoder = network.model.pixel_level_module.encoder
    assert isinstance(encoder, DeepStemResNet) and len(encoder.stages[1]) == 2
