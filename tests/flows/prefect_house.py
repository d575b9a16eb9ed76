"""A Prefect server with a worker, in a folder of its own."""

import json
import os
import re
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
