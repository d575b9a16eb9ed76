"""Worker processes that end silently with their parent or on an interrupt."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from ovseg.errors import OvsegError
from ovseg.stages.interrupts import own_session, sheltered

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool(ProcessPoolExecutor):
    """A pool of processes in their own sessions, which end when their parent does.

    They are never forked from this process: it runs threads (models, task runners), and a fork
    would copy their locks in any state.

    Args:
        workers: how many.
        preload: modules that are imported once, not by each worker.
    """

    def __init__(self, workers: int, *, preload: Sequence[str] = ()) -> None:
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        context.set_forkserver_preload(list(preload))
        # the fork server keeps the environment it started with; pass on what was set since, such
        # as the credentials of a bucket
        environment = dict(os.environ)
        super().__init__(workers, mp_context=context, initializer=_begin, initargs=(environment,))

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call, and start workers as needed."""
        with sheltered():
            return super().submit(function, *args, **kwargs)


@contextmanager
def dying_workers(work: str, *, setting: str) -> Iterator[None]:
    """Turn the death of a worker process into an error of one line.

    Args:
        work: what the process does, such as `decodes images`.
        setting: what to set to do without processes, such as `decode_workers to 0`.

    Raises:
        OvsegError: a process died within the block.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise OvsegError(
            f"a process that {work} died: out of memory, or the calling script has no"
            f' `if __name__ == "__main__":`; set {setting}'
        ) from error


def _begin(environment: dict[str, str]) -> None:
    own_session()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
