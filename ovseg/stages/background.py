"""Calls in a background thread: in order, with a limit on how much may wait.

    with Background("encode", most=2**28) as encoding:
        for masks_qhw in proposed:
            results.append(encoding.submit(encode, masks_qhw, weight=masks_qhw.size))

The caller goes on while the call runs, which pays where the heavy part releases the interpreter's
lock, as numpy, torch and pyarrow do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from ovseg.stages.stopwatch import waiting
from ovseg.stages.threads import with_fixed_threads

T = TypeVar("T")


class Background:
    """Runs calls in one thread, which ends with the `with` block; raises their errors unchanged.

    Args:
        part: what the caller waits for when it is too far ahead, see `ovseg.stages.stopwatch`.
        most: weight of the calls that may be unfinished; a heavier one waits until it is the only
            one. 0 calls at once, in the caller's thread.
    """

    def __init__(self, part: str, *, most: int) -> None:
        self.part, self.most = part, most
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=part) if most else None
        self._unfinished: deque[tuple[Future[Any], int]] = deque()
        self._weight = 0

    def submit(self, call: Callable[..., T], /, *args: Any, weight: int) -> Future[T]:
        """Call a function after those before it; wait while they weigh too much.

        Args:
            call: the function.
            args: its arguments.
            weight: of this call, such as the pixels that it holds in memory.

        Raises:
            Exception: of an earlier call.
        """
        if self._executor is None:
            future: Future[T] = Future()
            with waiting(self.part):
                future.set_result(call(*args))
            return future
        self._settle(self.most - weight)
        future = self._executor.submit(with_fixed_threads, call, *args)
        self._unfinished.append((future, weight))
        self._weight += weight
        return future

    def _settle(self, most: int) -> None:
        """Wait until the unfinished calls weigh at most this much, and raise the error of one."""
        while self._unfinished and (self._weight > most or self._unfinished[0][0].done()):
            future, weight = self._unfinished.popleft()
            self._weight -= weight
            with waiting(self.part):
                future.result()

    def __enter__(self) -> Background:
        """Return the thread, which starts with the first call."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for all calls and raise the error of one; after an error, drop those not begun."""
        if self._executor is None:
            return
        try:
            if error is None:
                self._settle(-1)
        finally:
            self._unfinished.clear()
            self._executor.shutdown(wait=True, cancel_futures=True)
