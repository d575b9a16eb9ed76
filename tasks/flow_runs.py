"""Closing of orphaned Prefect flow runs: of this process at its end, and of dead processes.

Prefect learns of a run's end from the process that runs it; the run of a killed process would be
shown as running forever.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.process import TAG, identity, is_dead

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger("ovseg.server")
OWN = f"{TAG}={identity()}"
"""The tag of the flow runs of this process."""
_LIMIT = 200  # Prefect's page size


class OpenRuns:
    """The flow runs that Prefect considers running, over an open connection.

    Created in advance, so that closing runs imports nothing.
    """

    def __init__(self, client: SyncPrefectClient):
        from prefect.client.schemas import filters
        from prefect.client.schemas.objects import StateType
        from prefect.states import Cancelled, Crashed

        self._client, self._cancelled, self._crashed = client, Cancelled, Crashed
        types = [StateType.PENDING, StateType.RUNNING]
        flow_type = filters.FlowRunFilterStateType(any_=types)
        task_type = filters.TaskRunFilterStateType(any_=types)
        self._flows = filters.FlowRunFilterState(type=flow_type)
        self._tasks = filters.TaskRunFilterState(type=task_type)
        self._filters = filters

    def cancel_own(self) -> None:
        """Set the flow runs of this process to *Cancelled*, with those that start meanwhile."""
        for _ in range(3):
            tagged = self._filters.FlowRunFilterTags(all_=[OWN])
            runs = self._read(tags=tagged)
            if not runs:
                return
            self._close(runs, self._cancelled(message="the command was interrupted"))

    def close_dead(self) -> None:
        """Set the flow runs of provably dead processes to *Crashed*."""
        try:
            runs = [run for run in self._read() if any(map(_of_the_dead, run.tags))]
            self._close(runs, self._crashed(message="its process is gone"))
        except Exception as error:  # nothing depends on it
            logger.warning("flow runs of dead processes are still shown as running: %s", error)

    def _read(self, **conditions: Any) -> list[FlowRun]:
        open_runs = self._filters.FlowRunFilter(state=self._flows, **conditions)
        return self._client.read_flow_runs(flow_run_filter=open_runs, limit=_LIMIT)

    def _close(self, runs: Sequence[FlowRun], state: Any) -> None:
        if not runs:
            return
        for run in runs:
            self._client.set_flow_run_state(run.id, state, force=True)
        within = self._filters.TaskRunFilterFlowRunId(any_=[run.id for run in runs])
        open_tasks = self._filters.TaskRunFilter(state=self._tasks, flow_run_id=within)
        for task in self._client.read_task_runs(task_run_filter=open_tasks, limit=_LIMIT):
            self._client.set_task_run_state(task.id, state, force=True)


def _of_the_dead(tag: str) -> bool:
    name, _, process = tag.partition("=")
    return name == TAG and is_dead(process)
