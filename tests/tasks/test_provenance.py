"""Where a run comes from, in words a person can use."""

import json
import shlex

from prefect.runtime import deployment, flow_run

from tasks.tracking.provenance import command_line


def test_what_a_worker_runs_is_said_as_its_deployment(monkeypatch):
    given = {"seeds": 3, "overrides": {"tracking.uri": "http://me:secret@host"}}
    for name, value in {"id": "an-id", "name": "nightly", "parameters": given}.items():
        monkeypatch.setattr(deployment, name, value, raising=False)
    monkeypatch.setattr(flow_run, "flow_name", "toys", raising=False)
    *words, parameters = shlex.split(command_line())
    assert words == ["prefect", "deployment", "run", "toys/nightly", "--params"]
    assert json.loads(parameters) == {"seeds": 3, "overrides": {"tracking.uri": "http://host"}}


def test_what_no_deployment_runs_is_said_as_it_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/flows/cli.py", "ablate", "all"])
    assert command_line() == "ovseg ablate all"
