"""The console script `ovseg`: the library's commands and those that run flows.

    ovseg run --preset storybook
    ovseg run --preset storybook --seeds 3
    ovseg ablate all --preset storybook --seeds 3
    ovseg mine --preset paper --captions captions_train2017.json --images train2017 \
        --clip ViT-L-14-quickgelu/openai --maskformer facebook/maskformer-swin-base-coco

User-facing errors are one line on standard error and exit code 2.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import requested
from ovseg.cli.app import app
from ovseg.cli.streams import on_any_streams
from ovseg.errors import OvsegError
from ovseg.files.access import check_text, local
from ovseg.files.escaping import say
from ovseg.stages.interrupts import run as run_interruptibly

if TYPE_CHECKING:
    from ovseg.config.run import RunConfig

Seeds = Annotated[
    int | None, typer.Option(help="Run seeds 0 to N-1, each in ROOT/seed-n, and compare them.")
]
Split = Annotated[
    Path | None,
    typer.Option(
        parser=local,
        metavar="PATH",
        help="Labelled images to tune on: images/, labels/, classes.txt; defaults to the"
        " storybook's.",
    ),
]
Arm = Annotated[
    str | None, typer.Option(help="Arm whose CLIP is used; defaults to the preset's first.")
]
Tried = Annotated[str | None, typer.Option(help="Values to try, such as 0.5,0.6,0.7.")]
Sample = Annotated[int | None, typer.Option(min=1, help="Only the split's first n images.")]
AllowValidation = Annotated[
    bool,
    typer.Option("--allow-validation", help="Tune on a validation set; the table will say so."),
]
Tables = Annotated[
    list[str] | None, typer.Argument(help="Names of tables, or all; without names, list them.")
]
AblationSeeds = Annotated[
    int, typer.Option(help="Run the cells of claims with seeds 0 to N-1, the others with seed 0.")
]
Listed = Annotated[
    bool,
    typer.Option(
        "--list", help="Show the contents, expectations and costs of the tables; run nothing."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        parser=local,
        metavar="PATH",
        help="Page to write, plots next to it; defaults to docs/ablations.md for all, else none.",
    ),
]

SCORING = ("benchmark", "tune-ensemble")
"""Commands that mine only if their scoring needs pairs."""


def _check(request: dict[str, Any], own: dict[str, Any]) -> "list[RunConfig]":
    """Resolve and check a request before anything is started."""
    from ovseg.cli.availability import check_available
    from ovseg.config.request import resolve, resolve_seeds, tuning_request

    if (seeds := own.get("seeds")) is not None:
        configs = resolve_seeds(**request, seeds=seeds)
    else:
        configs = [resolve(**request)]
        if "thresholds" in own:
            asked = {name: own[name] for name in ("arm", "split", "weights", "thresholds")}
            tuning_request(configs[0], **asked)
            if own["allow_validation"] and own["split"] is None:
                raise OvsegError("--allow-validation needs --split FOLDER")
    for config in configs:
        check_available(config, mines=request.get("mines", True))
    return configs


def _note_unheard(command: str, config: "RunConfig", given: dict[str, tuple[str, ...]]) -> None:
    """Print to standard error the options that only other commands use."""
    from ovseg.config.checks import unheard_by

    mines = command not in SCORING or config.scores_pairs
    if unheard := unheard_by(command, given, mines=mines):
        names = ", ".join(unheard)
        say(f"ovseg: without effect on `ovseg {command}`: {names}", error=True)


def _requested(
    command: Callable[..., None], check: Callable[..., Any] = _check
) -> Callable[..., None]:
    """Give a command the options of `requested`, and pass it the resulting request."""
    shared, (_, *own) = inspect.signature(requested), inspect.signature(command).parameters.values()
    name = command.__name__.replace("_", "-")

    @functools.wraps(command)
    def wrapper(**options: Any) -> None:
        from ovseg.config.presets import CHECKPOINT_PRESETS

        mine = {each.name: options.pop(each.name) for each in own}
        request, given = requested(**options)
        for twice in ("root", "seed"):
            if options[twice] is not None and twice in request["overrides"]:
                raise OvsegError(f"--{twice} and --set {twice} are both given: leave one out")
        if request["preset"] in CHECKPOINT_PRESETS and name not in SCORING:
            raise OvsegError(
                f"preset {request['preset']} scores a checkpoint: use it with `ovseg benchmark`"
            )
        asked = {**request, "mines": False} if name in SCORING else request
        if not (found := check(asked, mine)):
            return
        if name != "ablate":  # whose cells have settings of their own
            _note_unheard(name, found[0], given)
        typer.echo("starting Prefect and loading the models", err=True)
        from ovseg.config.resolved import handing
        from tasks.server.own import connected

        with handing({**asked, **mine}, found), connected(_load):
            command(request, **mine)

    options = shared.replace(parameters=[*own, *shared.parameters.values()])
    wrapper.__signature__ = options  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in options.parameters.values()}
    del wrapper.__wrapped__  # or typer would read the signature of the wrapped command
    return wrapper


@app.command()
@_requested
def run(request: dict[str, Any], seeds: Seeds = None) -> None:
    """Run the whole chain: mine, adapt, benchmark, report; optionally over several seeds."""
    if seeds is None:
        from flows.pipeline import pipeline
        from tasks.scoring import show

        show(pipeline(**request))
    else:
        from flows.seeds import run_seeds
        from tasks.studies import show_studies

        request.pop("seed")
        show_studies(run_seeds(**request, seeds=seeds))


@app.command()
@_requested
def mine(request: dict[str, Any]) -> None:
    """Mine pairs of nouns and masks into the pair table."""
    from flows.mine import mine as flow

    for source, mined in flow(**request).items():
        table = mined["table"]
        stats, root = table.stats, table.folder.parents[2]
        say(
            f"{source}: {stats['rows']} pairs of {stats['nouns']} nouns, {stats['kept']} kept;"
            f" next: ovseg sql --root {root} top_nouns"
        )


@app.command()
@_requested
def finetune(request: dict[str, Any]) -> None:
    """Adapt CLIP on the curated pairs (mined first if missing)."""
    from flows.finetune import finetune as flow

    for arm, manifest in flow(**request).items():
        say(f"{arm}: {manifest.payload()}")


@app.command()
@_requested
def benchmark(request: dict[str, Any]) -> None:
    """Score every arm on the preset's benchmarks (trained first if missing)."""
    from flows.benchmark import benchmark as flow
    from ovseg.config.resolved import resolved
    from tasks.scoring import show_scores

    scored = flow(**request)
    config = resolved(**request, mines=False)
    show_scores(scored, miniature=config.miniature, oracles=config.oracles)


@app.command("tune-ensemble")
@_requested
def tune_ensemble(
    request: dict[str, Any],
    split: Split = None,
    arm: Arm = None,
    weights: Tried = None,
    thresholds: Tried = None,
    sample: Sample = None,
    allow_validation: AllowValidation = False,
) -> None:
    """Search ensemble weight and mask threshold on training-side images, never on the benchmark."""
    from flows.tune_ensemble import tune_ensemble as flow
    from tasks.tuning import show_tuning

    tuned = flow(
        **request,
        split=split,
        arm=arm,
        weights=weights,
        thresholds=thresholds,
        limit=sample,
        allow_validation=allow_validation,
    )
    show_tuning(tuned)


def _check_ablations(request: dict[str, Any], own: dict[str, Any]) -> bool:
    from ovseg.cli.ablations import check_request

    return check_request(
        request, own["tables"], seeds=own["seeds"], listed=own["listed"], out=own["out"]
    )


@app.command()
@functools.partial(_requested, check=_check_ablations)
def ablate(
    request: dict[str, Any],
    tables: Tables = None,
    seeds: AblationSeeds = 1,
    listed: Listed = False,
    out: Out = None,
) -> None:
    """Run the paper's ablations by name, each a table and a plot with intervals."""
    from flows.ablations import ablate as flow

    request.pop("seed")
    page = Path("docs/ablations.md") if out is None and tables == ["all"] else out
    flow(tables, **request, seeds=seeds, out=page)


def _load() -> None:
    """Import what every flow needs, and set up the console."""
    import flows.pipeline  # noqa: F401
    from tasks.console import quiet_expected_errors

    quiet_expected_errors()
    with suppress(Exception):  # an MLflow that cannot be used is reported where it is used
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@on_any_streams
def main() -> None:
    """Run a command; errors that the user can fix are one line and exit code 2."""
    try:
        check_text(*sys.argv[1:])
        run_interruptibly(lambda: app(standalone_mode=False))
    except OvsegError as error:
        typer.echo(f"ovseg: {error}", err=True)
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors print themselves
        if show is None:
            raise
        show()
        sys.exit(2)


if __name__ == "__main__":
    main()
