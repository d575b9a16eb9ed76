"""Captions parsed by several processes at once: this one and its colleagues.

Each takes whole batches as it becomes free, so every batch is the one that a single process would
parse, and the nouns do not depend on who parses it. Colleagues start while this process parses.
A tagger that computes without torch is loaded without torch: that starts in 2.5 s instead of 6, and
takes 110 MB instead of 600.

This module is what a colleague imports first, so it imports nothing heavy.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING

from ovseg.stages.threads import fixed_threads
from ovseg.stages.workers import WorkerPool, dying_workers

if TYPE_CHECKING:
    from ovseg.mining.nouns.mentions import Noun, Rules

Batch = Sequence[str]
Parsed = list[list["Noun"]]
"""The nouns of each piece of a batch."""
AHEAD = 2  # batches per colleague: the one it parses and the next


class ParsingTeam:
    """Processes that parse batches of captions.

    Colleagues start at the first `parse`; `close` ends them.

    Args:
        parser: name of the spaCy pipeline.
        processes: how many, this one included; at least 2.
    """

    def __init__(self, parser: str, processes: int) -> None:
        self.parser = parser
        self._colleagues = processes - 1
        self._pool = WorkerPool(self._colleagues)  # its processes start with the first batch

    def parse(
        self,
        batches: Sequence[Batch],
        rules: Rules,
        here: Callable[[Batch], Parsed],
        *,
        needs_torch: bool,
    ) -> list[Parsed]:
        """Parse batches.

        Args:
            batches: pieces of captions.
            rules: what counts as a noun.
            here: parses a batch in this process.
            needs_torch: whether the pipeline computes with torch.

        Returns:
            The nouns of each batch, in order.

        Raises:
            OvsegError: a colleague died.
        """
        parsed: dict[int, Parsed] = {}
        left = deque(enumerate(batches))
        errors: list[BaseException] = []

        def hand_out() -> None:
            try:
                self._parse_elsewhere(left, rules, parsed, needs_torch)
            except BaseException as error:
                errors.append(error)

        distributor = threading.Thread(target=hand_out, name="parsing team")
        distributor.start()
        try:
            while not errors and (item := _next(left)) is not None:
                parsed[item[0]] = here(item[1])
        finally:
            left.clear()
            distributor.join()
        if not errors:
            return [parsed[place] for place in range(len(batches))]
        with dying_workers("parses captions", setting="mining.nouns.workers to 1"):
            raise errors[0]

    def _parse_elsewhere(
        self,
        left: deque[tuple[int, Batch]],
        rules: Rules,
        parsed: dict[int, Parsed],
        needs_torch: bool,
    ) -> None:
        """Keep the colleagues busy until no batch is left, and collect what they return."""
        waiting: dict[Future[Parsed], int] = {}
        while True:
            while len(waiting) < AHEAD * self._colleagues and (item := _next(left)) is not None:
                place, batch = item
                task = self._pool.submit(_parse, self.parser, batch, rules, needs_torch)
                waiting[task] = place
            if not waiting:
                return
            for task in wait(waiting, return_when=FIRST_COMPLETED).done:
                parsed[waiting.pop(task)] = task.result()

    def close(self) -> None:
        """End the colleagues, after the batches they are parsing; nothing can be parsed after."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _next(left: deque[tuple[int, Batch]]) -> tuple[int, Batch] | None:
    try:
        return left.popleft()
    except IndexError:
        return None


def _parse(parser: str, batch: Batch, rules: Rules, needs_torch: bool) -> Parsed:
    """Parse a batch in a colleague's process."""
    if not needs_torch:
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # spaCy imports it if it can
    from ovseg.mining.nouns.mentions import load_parser, nouns_of

    with fixed_threads():
        return nouns_of(batch, load_parser(parser), rules)
