"""Steps of a run: each a flow of its own in Prefect's eyes, which hands manifests to the next.

What a step is given is no parameter of its flow: Prefect would store it, and a manifest lists every
shard. A flow that a person, a schedule or an event starts takes the short request instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.config.run import RunConfig
from tasks.worlds import Drawn

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", Drawn, RunConfig)


def step(
    name: str, *, workers: int, title: str = "{name} {preset} seed {seed}"
) -> Callable[[Callable[Concatenate[R, P], T]], Callable[Concatenate[R, P], T]]:
    """Make a function of a run, drawn or not yet, a step.

    Args:
        name: of its flow in Prefect.
        workers: shards of its stages that are computed at once.
        title: of a run of it.
    """

    def decorate(function: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
        @functools.wraps(function)
        def wrapper(run: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
            runner: Any = ThreadPoolTaskRunner(max_workers=workers)
            config = run.config if isinstance(run, Drawn) else run
            made: Any = flow(
                name=name,
                flow_run_name=title.format(name=name, preset=config.preset, seed=config.seed),
                task_runner=runner,
            )(lambda: function(run, *args, **kwargs))
            return made()  # type: ignore[no-any-return]

        return wrapper

    return decorate
