"""The options that the commands of `flows/cli.py` share, and the resulting request."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ovseg.errors import OvsegError
from ovseg.files.access import local

Preset = Annotated[
    str,
    typer.Option(
        help="storybook, paper or gated; to score an imported checkpoint, ovseg-swinb-vitl14 or"
        " ovseg-r101c-vitb16."
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        parser=local,
        metavar="PATH",
        help="Folder of results; defaults to the preset's.",
    ),
]
Captions = Annotated[
    str | None, typer.Option(help="Captions file or folder of shards, a path or a URL.")
]
Images = Annotated[str | None, typer.Option(help="Folder or URL of the images they name.")]
Format = Annotated[
    str | None,
    typer.Option(
        help="coco, jsonl, csv, tsv, parquet, flickr, img2dataset or webdataset; inferred from"
        " the name of the captions by default."
    ),
]
Dataset = Annotated[str | None, typer.Option(help="Name of the data in every table.")]
Clip = Annotated[str | None, typer.Option(help="storybook, a folder, or ARCH/pretrained.")]
MaskFormer = Annotated[str | None, typer.Option(help="storybook, a folder, or a hub id.")]
Checkpoint = Annotated[
    str | None, typer.Option(help="Folder of `ovseg import-checkpoint`: sets --clip, --maskformer.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        parser=local,
        metavar="PATH",
        help="Folder of prepared benchmarks, each in a folder of its name.",
    ),
]
Benchmark = Annotated[
    list[str] | None,
    typer.Option(help="Score this folder of --data; may be repeated. Defaults to the preset's."),
]
System = Annotated[
    str | None, typer.Option(help="ovseg, zsseg, ...: a named set of benchmark settings.")
]
Parser = Annotated[str | None, typer.Option(help="storybook, a spaCy package, or a path.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        parser=local,
        metavar="PATH",
        help="Folder of ground-truth labels, for --source gt_label, gt_noun.",
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option(help="Source of the pairs: mined, gt_label or gt_noun; may be repeated."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int | None, typer.Option(help="Of training, and of the storybook's classes.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first n images.")]
Tracking = Annotated[str | None, typer.Option(help="MLflow server; SQLite in --root by default.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as models.device=cpu; may be repeated."),
]


class Request(NamedTuple):
    """The arguments of `ovseg.config.request.resolve`, with the settings of each option."""

    arguments: dict[str, Any]
    given: dict[str, tuple[str, ...]]


def requested(
    preset: Preset = "storybook",
    root: Root = None,
    captions: Captions = None,
    images: Images = None,
    captions_format: Format = None,
    dataset: Dataset = None,
    checkpoint: Checkpoint = None,
    clip: Clip = None,
    maskformer: MaskFormer = None,
    parser: Parser = None,
    data: Data = None,
    benchmark: Benchmark = None,
    system: System = None,
    labels: Labels = None,
    source: Source = None,
    device: Device = None,
    seed: Seed = None,
    limit: Limit = None,
    tracking: Tracking = None,
    settings: Settings = None,
) -> Request:
    """Convert the command line into a request.

    Raises:
        OvsegError: for a setting that cannot be read, or an option that others make useless.
    """
    from ovseg.config.overrides import PLACES, parse_settings, spread

    if checkpoint is not None and clip is not None and maskformer is not None:
        raise OvsegError("--checkpoint sets --clip and --maskformer, which are given: leave it out")
    options = {
        "checkpoint": checkpoint,  # before the more specific options
        "clip": clip,
        "maskformer": maskformer,
        "parser": parser,
        "device": device,
        "captions_format": captions_format,
        "dataset": dataset,
        "limit": limit,
        "tracking": tracking,
        "data": None if data is None else str(data),
        "benchmark": benchmark or None,
        "system": system,
        "labels": None if labels is None else str(labels.resolve()),
        "source": source or None,
    }
    there = {name: value for name, value in options.items() if value is not None}
    named = parse_settings(settings or [])
    given = {f"--{name.replace('_', '-')}": PLACES[name] for name in there}
    given |= (
        {"--captions and --images": ("data.captions", "data.images")} if captions and images else {}
    )
    given |= {f"--set {name}": (name,) for name in named}
    arguments = {
        "preset": preset,
        "root": root,
        "captions": captions,
        "images": images,
        "seed": seed,
        "overrides": {**spread(there), **named},
    }
    return Request(arguments, given)
