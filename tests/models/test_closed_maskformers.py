"""MaskFormers with a vocabulary of their own: from detectron2's names to outputs, and folders.

The networks with a ResNet are compared with detectron2's arithmetic written out in torch
functions, from the tensors by detectron2's names.
"""

from pathlib import Path

import pytest
import torch
from detectron2_reference import HEADS, WIDTH, as_in_detectron2, detectron2_resnet
from published_weights import SWIN, same, save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MaskFormerForInstanceSegmentation

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.closed_maskformers import write_closed
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.checkpoints.importing import import_checkpoint
from ovseg.models.checkpoints.maskformer_names import shared_names
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.open_vocabulary import R101C

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
    with pytest.raises(OvsegError, match="closed-vocabulary"):
        export_checkpoint(
            str(tmp_path / "ours"), tmp_path / "a.pth", layout="ovseg", clip="storybook"
        )
    del state["backbone.norm0.bias"]
    with pytest.raises(OvsegError, match=r"missing backbone\.norm0\.bias"):
        import_checkpoint(save_arrays(content, tmp_path / "b.pkl"), tmp_path / "b")


# ------------------------------------------------------------------------- ResNet, as in detectron2


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
        r"has no backbone\.stem\.conv1\.weight": {
            n: t for n, t in state.items() if not n.startswith("backbone.")
        },
        r"has no backbone\.res2\.0\.conv3\.weight.*ResNet-50": basic,
        r"missing backbone\.res3\.1\.conv2\.norm\.running_var": {
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
