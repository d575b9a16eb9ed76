"""Flow runs that Prefect shows as running: those of the dead are closed, one's own cancelled."""

import subprocess
import sys

import pytest
from prefect import flow, tags, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Running

from tasks.flow_runs import OWN, OpenRuns
from tasks.process import TAG, identity


@flow
def nothing():
    """A flow to have runs of."""


@pytest.fixture
def client(prefect_server):
    with get_client(sync_client=True) as client:
        yield client


def run_of(client, *names: str):
    """A flow run with tags that is running, as far as Prefect knows."""
    return client.create_flow_run(nothing, tags=names, state=Running()).id


def state(client, run) -> str:
    return client.read_flow_run(run).state.name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_runs_of_dead_processes_are_closed(client):
    words = [sys.executable, "-c", "from tasks.process import identity; print(identity())"]
    dead = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    killed = run_of(client, "nightly", f"{TAG}={dead}")
    others = [
        run_of(client),
        run_of(client, "nightly"),
        run_of(client, OWN),
        run_of(client, f"{TAG}=elsewhere/{identity().partition('/')[2]}"),
        run_of(client, dead),
    ]
    OpenRuns(client).close_dead()
    assert state(client, killed) == "Crashed"
    assert {state(client, run) for run in others} == {"Running"}


def test_runs_of_this_process_are_cancelled(client):
    others = [run_of(client), run_of(client, "nightly")]
    seen = {}

    @task
    def inner():
        return 1

    @flow
    def child():
        inner()
        OpenRuns(client).cancel_own()
        latest = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=100)
        seen.update({run.name: run.state.name for run in latest})

    @flow
    def parent():
        child(return_state=True)

    with tags(OWN):
        parent.with_options(flow_run_name="the parent")(return_state=True)
    assert seen["the parent"] == "Cancelled"
    assert sum(name == "Cancelled" for name in seen.values()) >= 2  # the child as well
    assert {state(client, run) for run in others} == {"Running"}
