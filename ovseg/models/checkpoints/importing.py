"""Import published checkpoints as our folders: every tensor accounted for, no code run.

    ovseg import-checkpoint ovseg_swinbase_vitL14_ft_mpt.pth --out checkpoints/ovseg-swinb

`import_checkpoint` reads the kinds in `ovseg.models.checkpoints.kinds` and writes one folder with
`clip/`, `maskformer/` or both, in the formats of `save_clip` and `save_maskformer`, and
`import.json`: the source, and what was dropped and why. Such a folder can be used wherever a CLIP
or a MaskFormer is named. `ovseg.models.checkpoints.exporting` does the reverse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from ovseg import __version__
from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.errors import OvsegError
from ovseg.files.access import check_replaceable, list_files
from ovseg.files.digests import file_sha256
from ovseg.files.publish import discard, publish, temporary_name
from ovseg.models.checkpoints.clip_names import (
    OVSEG_PREFIX,
    buffer_of,
    clip_configuration,
    fp16_rounded,
    split_prompts,
)
from ovseg.models.checkpoints.closed_maskformers import (
    STRIDES,
    copy_transformers_folder,
    write_closed,
)
from ovseg.models.checkpoints.kinds import (
    LABELS,
    MADE_BY,
    RECORD_FILE,
    ImportRecord,
    Kind,
    check_import_target,
    recognize,
)
from ovseg.models.checkpoints.maskformer_names import EMPTY_WEIGHT
from ovseg.models.checkpoints.maskformer_weights import alike, from_official, official_architecture
from ovseg.models.clip.load import create_clip, load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.maskformer.load import save_maskformer
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSettings
from ovseg.models.texts.templates import text_embeddings
from ovseg.models.weights.files import NamedTensors, named_tensors, read_weights, shorten_list

CLIP_FOLDER, MASKFORMER_FOLDER = "clip", "maskformer"
TRAINING_VOCABULARY = "coco-stuff-171"
TEMPLATES = "vild"
PACKAGES = ("torch", "open_clip_torch", "transformers", "safetensors")
INPUTS = {
    "swin": InputSettings(short_side=640, max_side=2560),
    "resnet_bottleneck": InputSettings(short_side=512, max_side=2048),
    "resnet_deep_stem": InputSettings(short_side=512, max_side=2048),
}
"""Test sizes of the published models, by backbone; a ResNet-50 uses those of the -101c."""


def import_checkpoint(
    source: Path,
    out: Path,
    *,
    clip: str | None = None,
    class_names: Sequence[str] | None = None,
    decoder_heads: int = 8,
    quick_gelu: bool = True,
    fp16_rounding: bool = False,
) -> ImportRecord:
    """Convert published weights into one of our folders, atomically.

    Args:
        source: a weights file, or the folder of a `transformers` MaskFormer.
        out: folder to create; an earlier import is replaced if it is unchanged.
        clip: for an open-vocabulary MaskFormer without a CLIP: the one it was trained with.
        class_names: classes a MaskFormer was trained on; defaults to COCO-Stuff's 171 if the file
            has as many.
        decoder_heads: attention heads of the transformer decoder, not inferable from shapes.
        quick_gelu: CLIP's activation, not inferable from shapes; False is GELU.
        fp16_rounding: for a CLIP: round the weights as the official loader does when it reads a
            training checkpoint (see `fp16_rounded`); otherwise the file's numbers are kept.

    Returns:
        A record of what was imported and what was dropped.

    Raises:
        OvsegError: if the file does not exist, is damaged, asks to run code, or has weights of
            another kind or architecture or missing or unknown tensors, or if the folder is in use.
    """
    out = out.expanduser()
    check_import_target(source, out)
    temporary = temporary_name(out)
    try:
        temporary.mkdir(parents=True)
        if source.is_dir():
            count = copy_transformers_folder(source, temporary / MASKFORMER_FOLDER)
            written: dict[str, Any] = {
                "kind": LABELS["closed_maskformer"],
                "layout": "transformers folder",
                "tensors": count,
                "dropped": {},
            }
        else:
            importer = _Import(
                named_tensors(read_weights(source), source),
                temporary,
                clip=clip,
                class_names=class_names,
                decoder_heads=decoder_heads,
                quick_gelu=quick_gelu,
                fp16_rounding=fp16_rounding,
            )
            written = importer.write()
        record = ImportRecord(
            source=source.name or source.resolve().name,
            sha256=file_sha256(source),
            versions={
                "ovseg": __version__,
                **{name: version(name) for name in PACKAGES},
            },
            **written,
        )
        text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (temporary / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
        list_files(temporary, MADE_BY)
        check_replaceable(out, MADE_BY)  # minutes have passed
        publish(temporary, out)
    except OvsegError as error:
        message = str(error)
        raise OvsegError(message if str(source) in message else f"{source}: {message}") from error
    except OSError as error:
        raise OvsegError(f"--out {out} cannot be written: {error.strerror or error}") from error
    finally:
        discard(temporary)
    return record


class _Import:
    """The import of one file into a folder."""

    def __init__(
        self,
        found: NamedTensors,
        folder: Path,
        *,
        clip: str | None,
        class_names: Sequence[str] | None,
        decoder_heads: int,
        quick_gelu: bool,
        fp16_rounding: bool,
    ) -> None:
        self.found, self.folder = found, folder
        self.kind: Kind = recognize(found.state)
        self.clip, self.class_names = clip, class_names
        self.decoder_heads = decoder_heads
        self.quick_gelu, self.fp16_rounding = quick_gelu, fp16_rounding
        self.dropped = dict(found.dropped)
        self.notes: list[str] = []
        self.no_object_weight: float | None = None

    def write(self) -> dict[str, Any]:
        """Write the folder's models and return the fields of the record."""
        state, kind = self.found.state, self.kind
        if self.clip is not None and kind != "maskformer":
            raise OvsegError(f"{LABELS[kind]}: --clip is not needed, leave it out")
        if self.class_names is not None and kind not in ("ovseg", "maskformer"):
            raise OvsegError(f"{LABELS[kind]}: class names are not needed, leave --classes out")
        if self.fp16_rounding and kind != "clip":
            raise OvsegError(
                f"{LABELS[kind]}: the official loader does not round it, leave --fp16-rounding out"
            )
        if kind in ("ovseg", "clip"):
            prefix = OVSEG_PREFIX if kind == "ovseg" else ""
            inside = {
                name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            self._write_clip(inside)
        if kind in ("ovseg", "maskformer"):
            self._leave_clip_statistics()
            self._write_maskformer(state)
        if kind == "closed_maskformer":
            target = self.folder / MASKFORMER_FOLDER
            dropped, notes = write_closed(state, target, decoder_heads=self.decoder_heads)
            self.dropped |= dropped
            self.notes += notes
        return {
            "kind": LABELS[kind],
            "layout": self.found.layout,
            "tensors": sum(name not in self.dropped for name in state),
            "dropped": self.dropped,
            "notes": tuple(self.notes),
            "stored_as": _stored_as(state, self.dropped),
            "no_object_weight": self.no_object_weight,
        }

    def _write_clip(self, state: dict[str, Tensor]) -> None:
        config = clip_configuration(state, quick_gelu=self.quick_gelu)
        activation = "QuickGELU" if self.quick_gelu else "GELU"
        self.notes.append(f"CLIP's activation is {activation}: a weights file does not say")
        if self.fp16_rounding:
            state = fp16_rounded(state)
            self.notes.append("CLIP's linear weights are rounded to float16, as upstream loads it")
        with torch.device("meta"):
            model = create_clip(config)
        towers, prompts = split_prompts(state)
        _check(towers, model.clip.state_dict(), "the CLIP")
        model.clip.load_state_dict(towers, strict=True, assign=True)
        if prompts is not None:
            patches, width = model.grid**2, config["vision_cfg"]["width"]
            blocks = config["vision_cfg"]["layers"]
            if (
                prompts.ndim != 3
                or prompts.shape[1] not in (1, patches)
                or (prompts.shape[2] != width or len(prompts) > blocks)
            ):
                raise OvsegError(
                    f"mask prompts {tuple(prompts.shape)} do not fit this CLIP of"
                    f" {blocks} blocks, {patches} patches and a width of {width}"
                )
            model.mask_prompts = nn.Parameter(prompts)
        save_clip(model, self.folder / CLIP_FOLDER)

    def _leave_clip_statistics(self) -> None:
        """Drop the pixel statistics of an OVSeg checkpoint, which CLIP's configuration holds."""
        state = self.found.state
        for name, usual in (
            ("clip_adapter.pixel_mean", open_clip.OPENAI_DATASET_MEAN),
            ("clip_adapter.pixel_std", open_clip.OPENAI_DATASET_STD),
        ):
            if name not in state:
                continue
            rounded = buffer_of(usual).to(state[name].dtype).float()
            if not torch.allclose(state[name].float(), rounded, atol=1e-3):
                raise OvsegError(f"{name} differs from CLIP's own, which OVSeg always uses")
            where = f"{CLIP_FOLDER}/open_clip_config.json"
            self.dropped[name] = f"CLIP's pixel statistics, on the 0..1 scale in {where}"

    def _inputs(self, backbone: str) -> InputSettings:
        """Return the published models' sizes and older detectron2 files' pixel statistics."""
        inputs = INPUTS[backbone]
        for name, field in (("pixel_mean", "mean"), ("pixel_std", "std")):
            if name in self.found.state:
                numbers = self.found.state[name].flatten().tolist()
                inputs = InputSettings(**{**inputs.model_dump(), field: numbers})
                self.dropped[name] = (
                    f"the backbone's, as {field} in {MASKFORMER_FOLDER}/config.json"
                )
        return inputs

    def _write_maskformer(self, state: dict[str, Tensor]) -> None:
        architecture = official_architecture(state, decoder_heads=self.decoder_heads)
        weights, dropped = from_official(state, architecture)
        self.dropped |= dropped
        if architecture.backbone == "resnet_bottleneck":
            self.notes.append(STRIDES)
        names = self._training_classes(state)
        with torch.device("meta"):
            network = OpenVocabularyMaskFormer(architecture)
        network.load_state_dict({k: _float(v).clone() for k, v in weights.items()}, assign=True)
        if self.kind == "ovseg":
            clip = load_clip(str(self.folder / CLIP_FOLDER), prompt_depth=0)
        elif self.clip is not None:
            clip = load_clip(self.clip, prompt_depth=0)
        else:
            raise OvsegError("the file has no CLIP: name the one it was trained with, --clip")
        if clip.embed_dim != architecture.embedding_dim:
            raise OvsegError(
                f"class embeddings have {architecture.embedding_dim} numbers, the"
                f" CLIP's texts {clip.embed_dim}: it was trained with another CLIP"
            )
        save_maskformer(
            network,
            self.folder / MASKFORMER_FOLDER,
            inputs=self._inputs(architecture.backbone),
            class_names=names,
            text_embeddings=text_embeddings(clip, names, templates=TEMPLATES),
        )

    def _training_classes(self, state: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the training classes; the file has at most their number."""
        usual = [each.name for each in read_vocabulary(TRAINING_VOCABULARY)]
        names = list(self.class_names) if self.class_names is not None else usual
        weights = state.get(EMPTY_WEIGHT)
        if weights is None:
            self.notes.append(f"{len(names)} training classes: the file does not say which")
            return names
        if weights.ndim != 1 or len(weights) != len(names) + 1:
            raise OvsegError(
                f"it was trained on {weights.numel() - 1} classes, but there are {len(names)}"
                " names: list them in order, one per line, --classes FILE"
            )
        if not bool((weights[:-1] == 1).all()):
            raise OvsegError(f"{EMPTY_WEIGHT} weighs classes differently")
        self.no_object_weight = float(weights[-1])
        if self.class_names is None:
            self.notes.append(f"the {len(names)} training classes are taken as COCO-Stuff's")
        return names


# --------------------------------------------------------------------------------------
# Tensors


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Reject a state with unexpected names or shapes."""
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    wrong = [
        f"{name} {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and not alike(state[name], tensor)
    ]
    faults = {"missing": missing, "unknown": extra, "of another shape or type": wrong}
    if any(faults.values()):
        differences = "; ".join(
            f"{fault} {shorten_list(names)}" for fault, names in faults.items() if names
        )
        raise OvsegError(f"{what} is damaged or has another architecture: {differences}")


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _stored_as(state: Mapping[str, Tensor], dropped: Mapping[str, str]) -> dict[str, str]:
    """Return the types other than float32; reject floats that float32 cannot represent."""
    others = {
        name: tensor.dtype
        for name, tensor in state.items()
        if tensor.is_floating_point() and tensor.dtype != torch.float32 and name not in dropped
    }
    lossy = [name for name, dtype in others.items() if dtype.itemsize > 2]
    if lossy:
        raise OvsegError(f"float64 would be rounded ({shorten_list(lossy)}); save as float32")
    return {name: str(dtype).removeprefix("torch.") for name, dtype in others.items()}
