"""The deployments on a real server with a real worker: run, cancelled midway, run again.

python -m pytest tests/flows/test_deployments_run.py

Runs commands of docs/operations.md. Everything that is started has its own PREFECT_HOME in a
temporary folder, and by it every process is found and ended, whatever happens.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from published_files import published

from ovseg.ablations.tables.registry import TABLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SMALL = {
    "data.mining_world.scenes": 16,
    "data.benchmark_world.scenes": 4,
    "data.min_shards": 8,
    "arms.epochs": 1,
    "arms.batch_size": 32,
    "arms.warmup_steps": 2,
}
PATIENCE = 900.0  # seconds for a run, on a machine that has much else to do


@pytest.fixture(scope="session", autouse=True)
def prefect_server():
    """These tests start their own server, as an operator does."""


def until(found, what, seconds=PATIENCE):
    """Wait until `found()` is truthy and give what it gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.2)
    pytest.fail(f"after {seconds:.0f} s still waiting: {what}")


class House:
    """A Prefect server and what belongs to it: the operator's shell, the worker, the API."""

    def __init__(self, home: Path):
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.port, self.api = port, f"http://127.0.0.1:{port}/api"
        own = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        self.environment = {
            **own,
            "PATH": f"{BIN}{os.pathsep}{own['PATH']}",
            "PWD": str(REPOSITORY),
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, command: str) -> None:
        """Start a process that stays; what it prints goes to a file of the same first words."""
        log = self.home / f"{'-'.join(command.split()[:2])}.log"
        with log.open("ab") as out:
            subprocess.Popen(
                command.split(),
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def shell(self, *words: str) -> str:
        """Run a command to its end and give what it prints."""
        done = subprocess.run(
            words,
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def get(self, path: str, body: dict | None = None):
        """Ask the API: a GET, or a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.api + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def healthy(self) -> bool:
        try:
            return self.get("/health") is True
        except OSError:
            return False

    def run(self, root: Path, deployment: str = "pipeline/storybook", **given) -> str:
        """Start a deployment in the embedded world, small, and give the flow run's id."""
        parameters = json.dumps({"root": str(root), "overrides": SMALL, **given})
        said = self.shell("prefect", "deployment", "run", deployment, "--params", parameters)
        return re.search(r"UUID: ([0-9a-f-]{36})", said).group(1)

    def state(self, run: str) -> str:
        return self.get(f"/flow_runs/{run}")["state"]["type"]

    def ended(self, run: str) -> str:
        """Wait for the end of a flow run and give its state."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        until(lambda: self.state(run) in final, f"end of flow run {run}")
        return self.state(run)

    def steps(self, run: str) -> dict[str, str]:
        """The flow runs below a run: their ids by the step's name."""
        children = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
        found = self.get("/flow_runs/filter", children)
        return {item["name"].removesuffix(" storybook seed 0"): item["id"] for item in found}

    def processes(self, **variables: str) -> list[psutil.Process]:
        """The living processes with these variables and our home in their environment."""
        wanted = {"PREFECT_HOME": str(self.home), **variables}
        found = []
        for process in psutil.process_iter():
            try:
                if wanted.items() <= process.environ().items() and process.status() != "zombie":
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def close(self) -> None:
        """End every process that was started here, those of runs too."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes():
                try:
                    process.send_signal(kind)
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(self.processes(), timeout=10)


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
