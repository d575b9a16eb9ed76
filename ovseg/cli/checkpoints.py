"""Import published weights, export ours, and print the result.

ovseg import-checkpoint ovseg_swinbase_vitL14_ft_mpt.pth --out checkpoints/ovseg-swinb
ovseg export-checkpoint checkpoints/ovseg-swinb --layout ovseg --out ovseg.pth
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from ovseg.errors import OvsegError
from ovseg.files.terminal import Terminal

PRESETS = {"swin": "ovseg-swinb-vitl14", "resnet_deep_stem": "ovseg-r101c-vitb16"}


def import_command(
    source: Path,
    *,
    out: Path,
    classes: Path | None = None,
    **options: Any,
) -> None:
    """Import a checkpoint; print what was read, what was left out and why, and how to use it.

    Args:
        source: a weights file, or the folder of a `transformers` MaskFormer.
        out: folder to create.
        classes: file of training classes, one per line.
        options: further options of `ovseg.models.checkpoints.importing.import_checkpoint`.

    Raises:
        OvsegError: see there; or an unreadable file of classes.
    """
    from ovseg.models.checkpoints.kinds import check_import_target

    check_import_target(source, out.expanduser())
    names = None
    if classes is not None:
        try:
            lines = classes.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OvsegError(f"--classes {classes} cannot be read: give a text file") from error
        names = [line.strip() for line in lines if line.strip()]
    from ovseg.models.checkpoints.importing import import_checkpoint

    record = import_checkpoint(source, out, class_names=names, **options)
    rows = [
        ("read", f"{record.source}: {record.kind} ({record.layout})"),
        ("wrote", f"{out}: {record.tensors} tensors, safetensors and JSON"),
        *(("left out", line) for line in _by_reason(record.dropped)),
        *(("note", note) for note in record.notes),
        *(("use", line) for line in _usage(out)),
    ]
    _print(rows)


def export_command(
    folder: str,
    *,
    out: Path,
    layout: str,
    clip: str | None = None,
) -> None:
    """Export a checkpoint; print what was written, what was left out, and how to use it.

    Args:
        folder: of a checkpoint, CLIP or MaskFormer.
        out: file to create.
        layout: `open_clip`, `open_clip_prompts` or `ovseg`.
        clip: another CLIP for `ovseg`.

    Raises:
        OvsegError: see `ovseg.models.checkpoints.exporting.export_checkpoint`.
    """
    from ovseg.models.checkpoints.exporting import export_checkpoint

    report = export_checkpoint(folder, out, layout=layout, clip=clip)  # type: ignore[arg-type]
    rows = [
        ("wrote", f"{report.out}: {report.tensors} tensors, layout {layout}"),
        *(("left out", line) for line in _by_reason(report.left_out)),
        *(("use", line) for line in report.usage),
    ]
    _print(rows)


def _by_reason(dropped: Mapping[str, str]) -> list[str]:
    """Return a line per reason, with the keys or their number."""
    reasons: dict[str, list[str]] = {}
    for key, reason in dropped.items():
        reasons.setdefault(reason, []).append(key)
    return [
        f"{', '.join(keys) if len(keys) < 5 else f'{len(keys)} such as {keys[0]}'}: {reason}"
        for reason, keys in reasons.items()
    ]


def _usage(out: Path) -> list[str]:
    """Return commands that use the folder."""
    clip = (out / "clip").is_dir()
    config = out / "maskformer" / "config.json"
    maskformer = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else None
    named = f"--clip {out} " if clip else ""
    named += f"--maskformer {out}" if maskformer else ""
    backbone = (maskformer or {}).get("architecture", {}).get("backbone")
    threshold = " --mask-threshold 0.5" if backbone == "resnet_deep_stem" else ""
    lines = [f'ovseg segment photo.jpg --classes "cat, grass" {named.strip()}{threshold}']
    if clip and backbone in PRESETS:
        lines.append(f"ovseg benchmark --preset {PRESETS[backbone]} --checkpoint {out} --data DATA")
    return lines


def _print(rows: list[tuple[str, str]]) -> None:
    console = Terminal()
    before = ""
    for what, text in rows:
        label = Text(f"{what if what != before else '':<10}", style="bold")
        # not wrapped, so that commands can be copied
        console.print(label + Text(text, style="default"), soft_wrap=True)
        before = what
