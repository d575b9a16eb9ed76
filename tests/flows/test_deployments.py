"""prefect.yaml as written: every deployment names a flow, a preset and parameters that exist."""

import importlib
import json
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule

from ovseg.config.presets import load_preset

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


def test_there_is_a_deployment_a_preset_and_one_of_the_ablations():
    from flows.pipeline import Preset
    from ovseg.config.presets import PRESETS

    assert set(PRESETS) == set(get_args(Preset))
    assert set(DEPLOYMENTS) == {*PRESETS, "ablations"}
    assert len(DEPLOYMENTS) == len(PROJECT["deployments"])
    flows = {name: flow_of(deployment).name for name, deployment in DEPLOYMENTS.items()}
    assert flows == {**dict.fromkeys(PRESETS, "pipeline"), "ablations": "ablations"}


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
    if flow_of(deployment).name == "pipeline":
        assert preset.preset == deployment["name"]
    given = {"captions", "images"} & set(parameters)
    assert given == (set() if preset.data.mining_world else {"captions", "images"})


def test_the_ablations_are_all_tables_with_a_page_beside_the_results():
    from ovseg.ablations.tables.registry import TABLES
    from ovseg.cli.ablations import plan_request

    deployment = DEPLOYMENTS["ablations"]
    given = flow_of(deployment).validate_parameters(
        json.loads(json.dumps(deployment["parameters"]))
    )
    plan = plan_request(**given)  # refuses a page among the results
    assert [planned.name for planned in plan.tables] == list(TABLES)
    assert (plan.preset, plan.seeds) == ("storybook", 3)
    assert plan.root == Path("runs/storybook-ablations")  # the command's own, so work is shared
    assert given["out"] == Path("runs/ablations.md")
    assert "runs/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    for place in ("`runs/ablations.md`", "`runs/storybook-ablations`"):
        assert place in (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")


def test_it_says_what_it_is(deployment):
    assert deployment["description"].strip().endswith(".")
    assert deployment["name"] in deployment["tags"]
    assert deployment["version"] == "{{ commit.stdout }}"


def test_one_run_at_a_time(deployment):
    limit = deployment["concurrency_limit"]
    assert limit["limit"] == 1
    assert ConcurrencyLimitStrategy(limit["collision_strategy"])


def test_schedules_are_there_and_off(deployment):
    assert deployment["schedules"]
    for schedule in deployment["schedules"]:
        assert schedule["active"] is False
        made = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert made.timezone and schedule["slug"]


def test_nothing_reports_home(deployment):
    pool = deployment["work_pool"]
    assert pool["name"] in ("ovseg-cpu", "ovseg-gpu")
    assert pool["job_variables"]["env"] == OFFLINE


def test_the_pools_are_made_by_make():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for deployment in DEPLOYMENTS.values():
        assert f"work-pool create {deployment['work_pool']['name']} --type process" in makefile


def test_the_steps_of_build_and_pull_exist():
    for step in PROJECT["build"] + PROJECT["pull"]:
        for name in step:
            module, function = name.rsplit(".", 1)
            assert callable(getattr(importlib.import_module(module), function))


def test_every_command_of_the_page_exists():
    """`prefect` has each command that docs/operations.md writes, `make` each target."""
    from prefect.cli._app import _app as prefect

    page = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:^|`)prefect ([a-z][^`#\n]+)", page, re.MULTILINE)
    assert len(commands) > 12
    for command in commands:
        known, _, rest = prefect.parse_commands(command.split())
        assert known, command
        assert known == ("deploy",) or len(known) > 1 or rest[0].startswith("-"), command
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", page, re.MULTILINE):
        assert f"\n{target}:" in makefile
