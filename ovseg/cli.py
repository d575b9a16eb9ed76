"""Library commands of the console script: those that run no flow.

    ovseg segment photo.jpg --classes "moon, tree, sea" --out overlay.png
    ovseg sql top_nouns

Heavy imports stay inside the commands, so that `ovseg --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ROOT = Path("runs/storybook")
"""Where the demo leaves its results; commands that read results look here by default."""

app = typer.Typer(
    name="ovseg",
    help="Open-vocabulary semantic segmentation with mask-adapted CLIP: mine, adapt, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    classes: Annotated[str, typer.Option(help="Class names, separated by commas.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("overlay.png"),
    clip: Annotated[
        str, typer.Option(help="storybook, a checkpoint folder, or ARCH/pretrained.")
    ] = "storybook",
    maskformer: Annotated[
        str, typer.Option(help="storybook, a folder, or a hub id.")
    ] = "storybook",
    ensemble_weight: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of CLIP in the ensemble; 0: CLIP alone.")
    ] = 0.7,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Label every pixel of an image with one of your class names."""
    from ovseg.analysis.segment import segment_command

    segment_command(
        image,
        classes=classes,
        out=out,
        clip=clip,
        maskformer=maskformer,
        ensemble_weight=ensemble_weight,
        device=device,
    )


@app.command()
def sql(
    name: Annotated[
        str | None, typer.Argument(help="A query of sql/queries; none lists them.")
    ] = None,
    command: Annotated[str | None, typer.Option("-c", "--command", help="SQL to run.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write .csv or .parquet instead of printing.")
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of results.")] = ROOT,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most.")] = 40,
) -> None:
    """Query the pair tables, read-only."""
    from ovseg.analysis.query import sql_command

    sql_command(name, command=command, out=out, root=root, limit=limit)


@app.command()
def settings(
    preset: Annotated[str, typer.Option(help="storybook, paper or gated.")] = "storybook",
) -> None:
    """List every setting of a preset, for --set NAME=VALUE."""
    from rich.console import Console
    from rich.table import Table

    from ovseg.presets import load_preset
    from ovseg.settings import settings

    table = Table(box=None, pad_edge=False)
    for heading in ("setting", "value", "what it is"):
        table.add_column(heading, overflow="fold")
    for name, value, description in settings(load_preset(preset)):
        table.add_row(name, value if len(value) < 60 else f"{value[:57]}...", description)
    Console().print(table, highlight=False)


@app.command()
def study(
    root: Annotated[Path, typer.Option(help="Where `ovseg run --seeds` left its results.")] = ROOT,
    seeds: Annotated[int | None, typer.Option(help="Only the first so many seeds.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that table and plots are copied to.")
    ] = None,
) -> None:
    """Compare the models over the seeds of a run, with intervals."""
    from ovseg.analysis.seed_runs import study_command

    study_command(root, seeds=seeds, out=out)
