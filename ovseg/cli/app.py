"""Library commands of the console script: those without a flow.

    ovseg segment photo.jpg --classes "moon, tree, sea" --out overlay.png
    ovseg sql top_nouns

Heavy imports stay inside the commands, so that `ovseg --help` is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ovseg.errors import OvsegError
from ovseg.files.access import local, model_name

ROOT = Path("runs/storybook")
"""Results of the demo; the default for commands that read results."""
Inference = Literal["sum", "best_mask"]
Activation = Literal["quick_gelu", "gelu"]
TableState = Literal["current", "rejected"]
Layout = Literal["open_clip", "open_clip_prompts", "ovseg"]

app = typer.Typer(
    name="ovseg",
    help="Open-vocabulary semantic segmentation with mask-adapted CLIP: mine, adapt, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _refuse(what: str, **options: object) -> None:
    """Reject options that were given but have no effect."""
    for name, value in options.items():
        if value:
            raise OvsegError(f"--{name} has no effect on {what}: leave it out")


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(parser=local, metavar="PATH", help="Image file.")],
    classes: Annotated[str, typer.Option(help="Class names, separated by commas.")],
    out: Annotated[Path, typer.Option(parser=local, metavar="PATH", help="PNG to write.")] = Path(
        "overlay.png"
    ),
    checkpoint: Annotated[
        str | None,
        typer.Option(
            parser=model_name,
            metavar="FOLDER",
            help="An imported checkpoint: its CLIP and its MaskFormer.",
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            parser=model_name,
            metavar="NAME",
            help="storybook, a checkpoint folder, or ARCH/pretrained.",
        ),
    ] = None,
    maskformer: Annotated[
        str | None,
        typer.Option(parser=model_name, metavar="NAME", help="storybook, a folder, or a hub id."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="A published system, such as ovseg, san or fc-clip.")
    ] = None,
    ensemble_weight: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Weight of CLIP in the ensemble; 0: CLIP alone."),
    ] = None,
    mask_threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="CLIP sees the pixels of a mask above this value."),
    ] = None,
    inference: Annotated[
        Inference | None,
        typer.Option(
            help="sum: all proposals, soft masks. best_mask: one binary mask per class, as in"
            " the official demo, which also sets --ensemble-weight 0 --mask-threshold 0.35."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any setting of benchmarks, such as benchmarks.templates=imagenet."
        ),
    ] = None,
) -> None:
    """Label every pixel of an image with one of your class names."""
    from ovseg.cli.availability import check_segmentor
    from ovseg.cli.segment import segment_command
    from ovseg.config.overrides import parse_settings
    from ovseg.config.segmenting import segmenting
    from ovseg.pretraining.on_demand import trained_names

    if checkpoint is not None and clip is not None and maskformer is not None:
        raise OvsegError(
            "--checkpoint sets --clip and --maskformer, which are both given: leave it out"
        )
    options = {
        "system": system,
        "clip": clip or checkpoint,
        "maskformer": maskformer or checkpoint,
        "ensemble_weight": ensemble_weight,
        "mask_threshold": mask_threshold,
        "inference": inference,
        "device": device,
    }
    given = {f"benchmarks.{name}": each for name, each in options.items() if each is not None}
    chosen = {**given, **parse_settings(settings or [])}
    config = segmenting(chosen)
    check_segmentor(config)
    if names := trained_names(config):
        raise OvsegError(f"{names[0]} is trained on demand by `ovseg benchmark`: give its folder")
    segment_command(image, classes=classes, out=out, settings=chosen)


@app.command()
def prepare(
    name: Annotated[
        str | None, typer.Argument(help="Name of the benchmark; without one, list them.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            parser=local,
            metavar="PATH",
            help="Folder of the unpacked data set; never written to.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=local, metavar="PATH", help="Folder of prepared benchmarks, for --data."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only report missing or wrong files.")
    ] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy images instead of linking them.")
    ] = False,
    synonyms: Annotated[
        bool, typer.Option("--synonyms", help="Prompt with synonyms of the classes too.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; defaults to 4.")] = None,
) -> None:
    """Prepare a published validation set as a benchmark, or check one."""
    if name is None:
        _refuse(
            "a list of the benchmarks", check=check, copy=copy, synonyms=synonyms, workers=workers
        )
    elif check:
        _refuse("--check, which writes nothing", copy=copy, synonyms=synonyms)
    from ovseg.cli.prepare import prepare_command

    prepare_command(
        name, root=root, out=out, check=check, copy=copy, synonyms=synonyms, workers=workers or 4
    )


@app.command("import-checkpoint")
def import_checkpoint(
    file: Annotated[
        Path,
        typer.Argument(
            parser=local,
            metavar="PATH",
            help="Weights file, or the folder of a transformers MaskFormer.",
        ),
    ],
    out: Annotated[Path, typer.Option(parser=local, metavar="PATH", help="Folder to make.")],
    classes: Annotated[
        Path | None,
        typer.Option(
            parser=local,
            metavar="PATH",
            help="MaskFormer's training classes, one per line; defaults to COCO-Stuff's 171.",
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            parser=model_name,
            metavar="NAME",
            help="Only for an open-vocabulary MaskFormer: its CLIP.",
        ),
    ] = None,
    decoder_heads: Annotated[
        int,
        typer.Option(
            min=1, help="Attention heads of MaskFormer's decoder; not stored in the weights."
        ),
    ] = 8,
    activation: Annotated[
        Activation,
        typer.Option(
            help="CLIP's activation; not stored in the weights. Published CLIPs use quick_gelu."
        ),
    ] = "quick_gelu",
    fp16_rounding: Annotated[
        bool,
        typer.Option(
            "--fp16-rounding",
            help="Round a CLIP's weights as the official loader rounds training checkpoints.",
        ),
    ] = False,
) -> None:
    """Convert published weights (OVSeg, CLIP, MaskFormer) into a folder; no code in them is run."""
    from ovseg.cli.availability import check_clip
    from ovseg.cli.checkpoints import import_command
    from ovseg.files.access import check_there

    check_there(file, "weights")
    if clip is not None:
        check_clip(clip, "--clip")
    import_command(
        file,
        out=out,
        classes=classes,
        clip=clip,
        decoder_heads=decoder_heads,
        quick_gelu=activation == "quick_gelu",
        fp16_rounding=fp16_rounding,
    )


@app.command("export-checkpoint")
def export_checkpoint(
    folder: Annotated[
        str,
        typer.Argument(
            parser=model_name, metavar="PATH", help="Folder of an imported checkpoint or of a CLIP."
        ),
    ],
    out: Annotated[Path, typer.Option(parser=local, metavar="PATH", help="File to make.")],
    layout: Annotated[
        Layout,
        typer.Option(
            help="open_clip: for stock open_clip, without mask prompts. open_clip_prompts:"
            " with them, as written by the official training. ovseg: MaskFormer and CLIP in one"
            " file."
        ),
    ] = "open_clip",
    clip: Annotated[
        str | None,
        typer.Option(
            parser=model_name,
            metavar="NAME",
            help="For ovseg: another CLIP, such as one fine-tuned since.",
        ),
    ] = None,
) -> None:
    """Write a checkpoint in a published format, for open_clip or the official OVSeg code."""
    if layout != "ovseg":
        _refuse(f"--layout {layout}, which has one CLIP only", clip=clip)
    from ovseg.cli.availability import check_checkpoint, check_clip
    from ovseg.cli.checkpoints import export_command

    check_checkpoint(folder)
    if clip is not None:
        check_clip(clip, "--clip")
    export_command(folder, out=out, layout=layout, clip=clip)


@app.command()
def sql(
    name: Annotated[
        str | None, typer.Argument(help="A query of sql/queries; without one, list them.")
    ] = None,
    command: Annotated[str | None, typer.Option("-c", "--command", help="SQL to run.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=local, metavar="PATH", help="Write .csv or .parquet instead of printing."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="PATH", help=f"Folder of results; defaults to {ROOT}."),
    ] = None,
    state: Annotated[
        TableState | None,
        typer.Option(help="rejected: tables that failed a check and were not published."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of rows to print; defaults to 40.")
    ] = None,
) -> None:
    """Query the pair tables, read-only."""
    if name is None and command is None:
        _refuse("a list of the queries", out=out, root=root, state=state, limit=limit)
    elif out is not None:
        _refuse("--out, which writes all rows", limit=limit)
    from ovseg.cli.sql import sql_command

    chosen = state or "current"
    sql_command(name, command=command, out=out, root=root or ROOT, state=chosen, limit=limit)


@app.command()
def settings(
    preset: Annotated[str, typer.Option(help="Name of a preset.")] = "storybook",
) -> None:
    """List every setting of a preset, for --set NAME=VALUE."""
    from ovseg.cli.tables import print_settings
    from ovseg.config.overrides import settings
    from ovseg.config.presets import load_preset

    print_settings(settings(load_preset(preset)))


@app.command()
def verify(
    root: Annotated[
        Path, typer.Option(parser=local, metavar="PATH", help="Folder of results.")
    ] = ROOT,
) -> None:
    """Read every result and compare it with what was recorded when it was written."""
    from ovseg.cli.verify import verify_command

    verify_command(root)


@app.command()
def study(
    root: Annotated[
        Path,
        typer.Option(
            parser=local, metavar="PATH", help="Folder of the results of `ovseg run --seeds`."
        ),
    ] = ROOT,
    seeds: Annotated[int | None, typer.Option(min=1, help="Only the first N seeds.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=local, metavar="PATH", help="Folder to copy the table and plots to."),
    ] = None,
) -> None:
    """Compare the models over the seeds of a run, with intervals."""
    from ovseg.comparison.seed_runs import study_command

    study_command(root, seeds=seeds, out=out)
