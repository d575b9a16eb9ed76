"""prefect.yaml as written: every deployment names a flow, a preset and parameters that exist."""

import importlib
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule

from ovseg.presets import load_preset

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS = {deployment["name"]: deployment for deployment in PROJECT["deployments"]}
OFFLINE = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}


@pytest.fixture(scope="session", autouse=True)
def prefect_server():
    """Reading a file needs no server."""


@pytest.fixture(params=DEPLOYMENTS)
def deployment(request):
    return DEPLOYMENTS[request.param]


def flow_of(deployment) -> Flow:
    path, name = deployment["entrypoint"].split(":")
    assert (REPOSITORY / path).is_file()
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


def test_there_is_a_deployment_a_preset():
    from ovseg.presets import PRESETS

    assert set(DEPLOYMENTS) == set(PRESETS)
    assert len(DEPLOYMENTS) == len(PROJECT["deployments"])


def test_the_entrypoint_is_a_flow_that_takes_the_parameters(deployment):
    flow = flow_of(deployment)
    assert isinstance(flow, Flow)
    parameters = flow.validate_parameters(deployment["parameters"])
    assert set(parameters) >= set(deployment["parameters"])
    with pytest.raises(Exception, match="nonsense"):
        flow.validate_parameters({**deployment["parameters"], "nonsense": 1})


def test_the_preset_exists_and_gets_the_data_it_needs(deployment):
    parameters = deployment["parameters"]
    preset = load_preset(parameters["preset"])
    assert preset.preset == deployment["name"]
    given = {"captions", "images"} & set(parameters)
    assert given == (set() if preset.mining_world else {"captions", "images"})


def test_it_says_what_it_is(deployment):
    assert deployment["description"].strip().endswith(".")
    assert deployment["name"] in deployment["tags"]
    assert deployment["concurrency_limit"] == 1


def test_schedules_are_there_and_off(deployment):
    assert deployment["schedules"]
    for schedule in deployment["schedules"]:
        assert schedule["active"] is False
        made = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert made.timezone


def test_nothing_reports_home(deployment):
    pool = deployment["work_pool"]
    assert pool["name"] in ("ovseg-cpu", "ovseg-gpu")
    assert pool["job_variables"]["env"] == OFFLINE


def test_the_pools_are_made_in_the_header():
    header = (REPOSITORY / "prefect.yaml").read_text(encoding="utf-8").split("name: ovseg")[0]
    for deployment in DEPLOYMENTS.values():
        assert f"work-pool create --type process {deployment['work_pool']['name']}" in header


def test_the_steps_of_a_pull_exist():
    for step in PROJECT["pull"]:
        for name, inputs in step.items():
            module, function = name.rsplit(".", 1)
            assert callable(getattr(importlib.import_module(module), function))
            assert inputs["directory"] == "{{ $PWD }}"
