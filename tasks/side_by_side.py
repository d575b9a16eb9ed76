"""Jobs that run side by side in threads, each after those whose results it takes.

    tuned = jobs.add(train, config)
    jobs.add(score, tuned)
    jobs.run(workers=2)

Of the jobs that can start, the one added first does: add the longest chains first.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """A call whose arguments may be other jobs, which stand for their results."""

    def __init__(self, call: Callable[..., T], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments
        self._result: list[T] = []

    @property
    def done(self) -> bool:
        """Whether it has its result."""
        return bool(self._result)

    @property
    def ready(self) -> bool:
        """Whether the jobs it takes the results of are done."""
        return all(each.done for each in self.arguments if isinstance(each, Job))

    @property
    def result(self) -> T:
        """Its result, once it is done."""
        return self._result[0]

    def run(self) -> None:
        """Make the call and keep its result."""
        taken = (each.result if isinstance(each, Job) else each for each in self.arguments)
        self._result.append(self.call(*taken))


class Jobs:
    """Jobs in the order of their importance."""

    def __init__(self) -> None:
        self._waiting: list[Job[Any]] = []

    def add(self, call: Callable[..., T], *arguments: Any) -> Job[T]:
        """Add a job after those added before.

        Args:
            call: runs in a thread, in a copy of the caller's context (a flow's, say).
            arguments: its arguments; a job stands for its result.
        """
        job = Job(call, *arguments)
        self._waiting.append(job)
        return job

    def run(self, workers: int) -> None:
        """Run all jobs, at most `workers` at once.

        Raises:
            Exception: the first error of a job, after those running at the same time have ended;
                jobs that were still waiting are not started.
        """
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(workers) as pool:
            while self._waiting or running:
                for job in [each for each in self._waiting if each.ready][: workers - len(running)]:
                    self._waiting.remove(job)
                    running.add(pool.submit(contextvars.copy_context().run, job.run))
                if not running:
                    raise ValueError("a job waits for one that was not added")
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    running.remove(future)
                    future.result()
