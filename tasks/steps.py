"""Steps of a run: each is a Prefect flow of its own, which passes manifests to the next.

The arguments of a step are not parameters of its flow: Prefect would store them, and a manifest
lists every shard. A flow started by a person, a schedule or an event takes the short request
instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.config.run import RunConfig
from ovseg.stages.threads import cores
from tasks.worlds import Drawn

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", Drawn, RunConfig)


def step(
    name: str, *, title: str = "{name} {preset} seed {seed}"
) -> Callable[[Callable[Concatenate[R, P], T]], Callable[Concatenate[R, P], T]]:
    """Turn a function of a run, drawn or not yet, into a step.

    Args:
        name: of its flow in Prefect.
        title: of its flow runs.
    """

    def decorate(function: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
        @functools.wraps(function)
        def wrapper(run: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
            config = run.config if isinstance(run, Drawn) else run
            runner: Any = ThreadPoolTaskRunner(max_workers=config.execution.workers or cores())
            made: Any = flow(
                name=name,
                flow_run_name=title.format(name=name, preset=config.preset, seed=config.seed),
                task_runner=runner,
            )(lambda: function(run, *args, **kwargs))
            return made()  # type: ignore[no-any-return]

        return wrapper

    return decorate
