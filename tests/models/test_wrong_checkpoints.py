"""Files that cannot be imported: each is refused in one line and leaves nothing behind."""

from pathlib import Path

import pytest
import torch
from published_weights import (
    NAMES,
    SMALL,
    clip_state,
    ovseg_state,
    save_ovseg,
    save_training,
)
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.clip_names import OVSEG_PREFIX, prefixed
from ovseg.models.checkpoints.exporting import export_checkpoint
from ovseg.models.checkpoints.importing import import_checkpoint
from ovseg.models.clip.load import load_clip


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


PROJ = f"{OVSEG_PREFIX}visual.proj"
NORM = "backbone.norm0.weight"
WRONG = {
    "a CLIP tensor is missing": (lambda s: without(s, PROJ), "missing visual.proj"),
    "a CLIP block is short": (
        lambda s: without(s, f"{OVSEG_PREFIX}visual.transformer.resblocks.1.ln_1.bias"),
        r"the CLIP is damaged .* missing visual\.transformer\.resblocks\.1\.ln_1\.bias",
    ),
    "a CLIP tensor too much": (
        lambda s: s | {f"{OVSEG_PREFIX}visual.head": torch.zeros(1)},
        r"unknown visual\.head",
    ),
    "a CLIP tensor of another shape": (
        lambda s: s | {f"{OVSEG_PREFIX}visual.ln_post.bias": torch.zeros(65)},
        r"another shape or type visual\.ln_post\.bias \(65,\), not \(64,\)",
    ),
    "prompts of another grid": (
        lambda s: s | {f"{OVSEG_PREFIX}visual.mask_embedding": torch.zeros(3, 49, 64)},
        r"mask prompts \(3, 49, 64\) do not fit",
    ),
    "more prompts than blocks": (
        lambda s: s | {f"{OVSEG_PREFIX}visual.mask_embedding": torch.zeros(4, 16, 64)},
        r"mask prompts \(4, 16, 64\) do not fit",
    ),
    "a MaskFormer tensor is missing": (lambda s: without(s, NORM), r"backbone\.norm0\.weight"),
    "a MaskFormer tensor too much": (
        lambda s: s | {"sem_seg_head.extra": torch.zeros(1)},
        r"sem_seg_head\.extra",
    ),
    "a MaskFormer tensor of another shape": (
        lambda s: s | {NORM: torch.zeros(9)},
        r"differ in shape or type",
    ),
    "other pixel statistics": (
        lambda s: s | {"clip_adapter.pixel_mean": torch.zeros(1, 3, 1, 1)},
        r"clip_adapter\.pixel_mean differs from CLIP's own",
    ),
    "another CLIP": (
        lambda s: s | {"sem_seg_head.predictor.class_embed.layers.1.weight": torch.zeros(12, 20),
                       "sem_seg_head.predictor.class_embed.layers.1.bias": torch.zeros(12),
                       "clip_adapter.non_object_embedding": torch.zeros(1, 12)},
        "have 12 numbers, the CLIP's texts 16",
    ),
    "whole numbers for a MaskFormer's weights": (
        lambda s: s | {NORM: s[NORM].long()},
        r"differ in shape or type.*hidden_states_norms\.0\.weight \(8,\) int64",
    ),
    "whole numbers for a CLIP's weights": (
        lambda s: s | {PROJ: s[PROJ].long()},
        r"another shape or type visual\.proj",
    ),
    "sparse tensors": (lambda s: s | {NORM: s[NORM].to_sparse()}, r"sparse.*backbone\.norm0"),
    "weighted classes": (
        lambda s: s | {"criterion.empty_weight": torch.tensor([1.0, 2.0, 0.1])},
        r"criterion\.empty_weight weighs classes differently",
    ),
    "double precision": (lambda s: s | {PROJ: s[PROJ].double()}, r"float64.*visual\.proj"),
    "another model": (
        lambda s: {f"layer{n}.weight": torch.zeros(1) for n in range(9)},
        r"its 9 keys are layer0\.weight, .*layer5\.weight and 3 more",
    ),
    "a CLIP with a ResNet": (
        lambda s: {"visual.layer1.0.conv1.weight": torch.zeros(1), "logit_scale": torch.zeros(())},
        r"its 2 keys are logit_scale, visual\.layer1",
    ),
    "nothing": (lambda s: {}, "no named weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_checkpoints_are_refused_and_leave_nothing(tmp_path: Path, case: str):
    change, words = WRONG[case]
    source = save_ovseg(change(ovseg_state()), tmp_path / "wrong.pth")
    with pytest.raises(OvsegError, match=words) as error:
        import_checkpoint(source, tmp_path / "out", **SMALL)
    message = str(error.value)
    assert str(source) in message and "\n" not in message and len(message) < 600
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.pth"]


def test_mixed_names_and_what_is_no_tensor_are_refused(tmp_path: Path):
    state = clip_state()
    torch.save({"state_dict": {**prefixed(state, "module."), "extra": torch.zeros(1)}},
               tmp_path / "mixed.pt")  # fmt: skip
    with pytest.raises(OvsegError, match=r"'module\.'.*1 without \(extra\)"):
        import_checkpoint(tmp_path / "mixed.pt", tmp_path / "out")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(OvsegError, match="a list"):
        import_checkpoint(tmp_path / "list.pt", tmp_path / "out")
    torch.save({"optimizer": {"lr": 1.0}, "epoch": 3}, tmp_path / "run.pt")
    with pytest.raises(OvsegError, match=r"2 of its 2 keys \(optimizer, epoch\) are not tensors"):
        import_checkpoint(tmp_path / "run.pt", tmp_path / "out")
    with pytest.raises(OvsegError, match="--clip is not needed"):
        import_checkpoint(
            save_training(state, tmp_path / "a.pt"), tmp_path / "out", clip="storybook"
        )


def test_a_folder_in_use_is_left_alone_and_an_import_is_replaced(tmp_path: Path):
    source = save_training(clip_state(), tmp_path / "a.pt")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", source):
        with pytest.raises(
            OvsegError, match=r"exists, but .* did not make it|exists and is not a folder"
        ):
            import_checkpoint(source, out)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    import_checkpoint(source, tmp_path / "ours")
    save_training(clip_state(prompts=0), source)
    import_checkpoint(source, tmp_path / "ours")
    assert load_clip(str(tmp_path / "ours")).prompt_depth == 0
    (tmp_path / "ours" / "clip" / "notes.txt").write_text("years of work")
    with pytest.raises(OvsegError, match=r"holds clip/notes\.txt, which .* did not write"):
        import_checkpoint(source, tmp_path / "ours")
    assert (tmp_path / "ours" / "clip" / "notes.txt").read_text() == "years of work"
    (tmp_path / "ours" / "import.json").write_text("{}")
    with pytest.raises(OvsegError, match=r"import\.json is damaged"):
        export_checkpoint(str(tmp_path / "ours"), tmp_path / "out.pt")


def test_names_of_classes_without_use_are_refused(tmp_path: Path):
    source = save_training(clip_state(), tmp_path / "epoch_5.pt")
    with pytest.raises(OvsegError, match="CLIP: class names are not needed, leave --classes out"):
        import_checkpoint(source, tmp_path / "out", class_names=NAMES)
    assert not (tmp_path / "out").exists()


def test_a_flipped_byte_and_a_folder_below_a_file_are_refused(tmp_path: Path):
    source = save_ovseg(ovseg_state(), tmp_path / "a.pth")
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.pth").write_bytes(content)
    with pytest.raises(OvsegError, match=r"damaged: the checksum of .* differs"):
        import_checkpoint(tmp_path / "flipped.pth", tmp_path / "out", **SMALL)
    with pytest.raises(OvsegError, match="is inside the other: name another folder"):
        import_checkpoint(source, source / "below", **SMALL)


def test_statistics_rounded_with_the_file_are_clips_own(tmp_path: Path):
    state = ovseg_state()
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in state.items()}
    record = import_checkpoint(save_ovseg(half, tmp_path / "a.pth"), tmp_path / "ours", **SMALL)
    assert set(record.stored_as.values()) == {"bfloat16"}


def test_a_clip_of_another_width_is_not_exported_beside_a_maskformer(tmp_path: Path):
    source = save_ovseg(ovseg_state(), tmp_path / "a.pth")
    import_checkpoint(source, tmp_path / "ours", **SMALL)
    with pytest.raises(OvsegError, match="have 16 numbers, the CLIP's texts 128"):
        export_checkpoint(
            str(tmp_path / "ours"), tmp_path / "b.pth", layout="ovseg", clip="storybook"
        )
    assert not (tmp_path / "b.pth").exists()
