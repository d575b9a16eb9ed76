"""The deployments on a real server with a real worker: run, cancelled midway, run again.

python -m pytest tests/flows/test_deployments_run.py

Runs commands of docs/operations.md. Everything that is started has its own PREFECT_HOME in a
temporary folder, and by it every process is found and ended, whatever happens.
"""

import contextlib
import json
import shutil
import urllib.error
import urllib.request

import psutil
import pytest
from prefect_house import BIN, REPOSITORY, SMALL, House, until
from published_files import published

from ovseg.ablations.tables.registry import TABLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture(scope="session", autouse=True)
def prefect_server():
    """These tests start their own server, as an operator does."""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A server with the pools and the deployments of prefect.yaml."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    house = House(tmp_path_factory.mktemp("prefect-home"))
    try:
        house.start(f"prefect server start --host 127.0.0.1 --port {house.port}")
        until(house.healthy, "a healthy server", 240)
        house.shell("make", "pools", f"BIN={BIN}")
        house.shell("prefect", "deploy", "--all")
        yield house
    finally:
        house.close()
        assert not house.processes()


@pytest.fixture(scope="module")
def worker(house):
    """A worker of the CPU pool."""
    house.start("prefect worker start --pool ovseg-cpu")
    return house


# --------------------------------------------------------------------------------------
# What `prefect deploy --all` leaves on the server


@pytest.mark.parametrize(
    ("flow", "name", "pool", "collision"),
    [
        ("pipeline", "storybook", "ovseg-cpu", "ENQUEUE"),
        ("pipeline", "paper", "ovseg-gpu", "CANCEL_NEW"),
        ("pipeline", "gated", "ovseg-gpu", "CANCEL_NEW"),
        ("ablations", "ablations", "ovseg-cpu", "ENQUEUE"),
    ],
)
def test_a_deployment_is_what_the_file_says(house, flow, name, pool, collision):
    made = house.get(f"/deployments/name/{flow}/{name}")
    assert made["work_pool_name"] == pool
    assert set(made["tags"]) == {"ovseg", name, pool.removeprefix("ovseg-")}
    assert made["description"].endswith("in Zurich.")
    assert made["version"] and "{{" not in made["version"]
    assert made["global_concurrency_limit"]["limit"] == 1
    assert made["concurrency_options"]["collision_strategy"] == collision
    (schedule,) = made["schedules"]
    assert schedule["schedule"]["timezone"] == "Europe/Zurich"
    assert schedule["active"] is False
    assert made["parameters"]["preset"] == (name if flow == "pipeline" else "storybook")
    assert made["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(REPOSITORY)}}
    ]


@pytest.mark.parametrize("deployment", ["pipeline/storybook", "ablations/ablations"])
def test_the_parameters_explain_themselves(house, deployment):
    made = house.get(f"/deployments/name/{deployment}")
    parameters = made["parameter_openapi_schema"]["properties"]
    assert parameters["preset"]["enum"] == ["storybook", "paper", "gated"]
    assert {"preset", "root", "captions", "images", "overrides"} <= set(parameters)
    for name, schema in parameters.items():
        assert len(schema["description"]) > 20, name
        assert "default" in schema or name in made["parameters"], name


def test_the_server_refuses_what_the_schema_does_not_know(house):
    made = house.get("/deployments/name/pipeline/storybook")
    with pytest.raises(urllib.error.HTTPError) as refused:
        house.get(f"/deployments/{made['id']}/create_flow_run", {"parameters": {"preset": "nope"}})
    assert refused.value.code in (409, 422)


def test_the_pools_are_made_once(house):
    limits = {"ovseg-cpu": None, "ovseg-gpu": 1}
    before = {name: house.get(f"/work_pools/{name}") for name in limits}
    house.shell("make", "pools", f"BIN={BIN}")
    for name, limit in limits.items():
        pool = house.get(f"/work_pools/{name}")
        assert (pool["type"], pool["concurrency_limit"]) == ("process", limit)
        assert (pool["id"], pool["updated"]) == (before[name]["id"], before[name]["updated"])


def test_a_schedule_is_switched_on_and_off(house):
    deployment = "pipeline/storybook"

    def active() -> bool:
        (schedule,) = house.get(f"/deployments/name/{deployment}")["schedules"]
        return schedule["active"]

    command = ("prefect", "deployment", "schedule")
    (listed,) = json.loads(house.shell(*command, "ls", deployment, "--output", "json"))
    assert listed["id"] in house.shell(*command, "ls", deployment)
    assert not active()
    try:
        house.shell(*command, "resume", deployment, listed["id"])
        assert active()
    finally:
        house.shell(*command, "pause", deployment, listed["id"])
    assert not active()


# --------------------------------------------------------------------------------------
# Runs


@pytest.fixture(scope="module")
def whole(worker, tmp_path_factory):
    """A run that nothing disturbs: (its id, its root)."""
    root = tmp_path_factory.mktemp("whole") / "results"
    run = worker.run(root)
    assert worker.ended(run) == "COMPLETED", (worker.home / "prefect-worker.log").read_text()
    return run, root


def test_a_run_shows_what_it_does(house, whole):
    run, root = whole
    assert house.get(f"/flow_runs/{run}")["name"] == "storybook seed 0"
    steps = house.steps(run)
    assert set(steps) >= {"mine", "finetune", "benchmark", "report"}

    wanted = {"task_runs": {"flow_run_id": {"any_": [steps["mine"]]}}}
    tasks = {item["name"] for item in house.get("/task_runs/filter", wanted)}
    assert {f"find nouns {n} of 8" for n in range(1, 9)} <= tasks
    assert "find nouns: finish" in tasks

    logs = house.get("/logs/filter", {"logs": {"flow_run_id": {"any_": [steps["mine"]]}}})
    assert any("find nouns" in line["message"] and str(root) in line["message"] for line in logs)


def test_a_run_leaves_artifacts(house, whole):
    run, root = whole
    runs = [run, *house.steps(run).values()]
    made = house.get("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": runs}}})
    by_key = {item["key"]: item for item in made if item["key"]}
    assert set(by_key) == {"storybook-funnel", "storybook-scores", "storybook-summary"}
    assert by_key["storybook-summary"]["flow_run_id"] == run
    assert "data:image/webp;base64," in by_key["storybook-summary"]["data"]
    assert f"sqlite:///{root / 'mlflow.db'}" in by_key["storybook-summary"]["data"]
    scores = json.loads(by_key["storybook-scores"]["data"])
    assert scores[0]["model"] == "original CLIP" and len(scores) == 4
    funnel = json.loads(by_key["storybook-funnel"]["data"])
    assert {"images", "captions", "pairs"} <= {row["step"] for row in funnel}
    progress = {item["description"]: item["data"] for item in made if item["type"] == "progress"}
    assert "find nouns: 16 of 16" in progress
    assert set(progress.values()) == {100.0}


def test_a_cancelled_run_is_finished_by_the_next(house, whole, tmp_path):
    _, undisturbed = whole
    root = tmp_path / "results"
    run = house.run(root)
    until(lambda: len(list(root.glob("*/*/shard-*.json"))) > 3, "the first shards")
    # held still, or a fast machine finishes the run before it hears of its cancellation
    held = house.processes(PREFECT__FLOW_RUN_ID=run)
    assert held
    try:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        house.shell("prefect", "flow-run", "cancel", run)
        until(lambda: house.state(run) in {"CANCELLING", "CANCELLED"}, "the cancellation", 120)
    finally:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
    assert house.ended(run) == "CANCELLED"
    until(lambda: not house.processes(PREFECT__FLOW_RUN_ID=run), "the end of its processes", 60)

    kept = {path: path.stat().st_mtime_ns for path in root.glob("*/*/shard-*.json")}
    assert len(kept) > 3 and not list(root.glob("scores/*/manifest.json"))
    again = house.run(root)
    assert house.ended(again) == "COMPLETED"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert published(root) == published(undisturbed)
    assert any("tables/pairs" in path for path in published(root))
    assert any("checkpoints" in path for path in published(root))


def test_ablations_write_their_page_and_tell_of_a_cell_that_failed(worker, tmp_path):
    root, page = tmp_path / "results", tmp_path / "page.md"
    asked = {"tables": ["visual-prompts"], "seeds": 1, "out": str(page)}
    run = worker.run(root, "ablations/ablations", **asked)
    assert worker.ended(run) == "COMPLETED", (worker.home / "prefect-worker.log").read_text()
    assert worker.get(f"/flow_runs/{run}")["name"] == "ablations of storybook: ['visual-prompts']"
    text = page.read_text(encoding="utf-8")
    assert "prefect deployment run ablations/ablations --params" in text
    assert "deep visual prompts: seed 0" in text and "failed" not in text
    assert (tmp_path / "page" / "visual-prompts-storybook.png").is_file()
    done = published(root)
    assert sum(path.endswith("/manifest.json") for path in done if "study/" in path) == 1

    # the same work found again; the one of another setting cannot be done
    broken = {**SMALL, "arms.clip": str(tmp_path / "no-such-model")}
    run = worker.run(root, "ablations/ablations", **{**asked, "overrides": broken})
    assert worker.ended(run) == "FAILED"
    said = worker.get(f"/flow_runs/{run}")["state"]["message"]
    cells = TABLES["visual-prompts"].of("storybook").cells.values()
    trained = sum(bool(cell.trains) for cell in cells)
    assert f"{trained} cells failed, the first visual-prompts/mpt with seed 0" in said
    assert published(root).items() >= done.items()
