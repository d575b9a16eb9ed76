"""No password of a run is in its results, in Prefect's home, or on the console."""

import logging
import os
import sys
from pathlib import Path

import pytest
from prefect import flow, get_run_logger, task

from ovseg.config.base import execution
from ovseg.config.mining import NounsConfig
from ovseg.config.presets import load_preset
from ovseg.errors import OvsegError
from ovseg.stages.run import _write_run
from tasks.console import print_metrics
from tasks.tracking.tracked_run import track

SECRETS = ("hunter2", 'quo"te', "sl/ash", "bl ank", "sig-nature")
DEAD = f"http://me:{'@'.join(SECRETS)}@127.0.0.1:9/?X-Amz-Signature={SECRETS[4]}"


class Reading(NounsConfig):
    """A stage that is told where its input lies, by somebody who knows no better."""

    source: str = execution("", "where its captions lie")


def everything(*folders: Path) -> bytes:
    return b"\n".join(
        path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.slow
def test_secrets_of_a_run_are_nowhere(tmp_path, monkeypatch, capfd):
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(sys, "argv", ["ovseg", "run", "--tracking", DEAD, f"--set=a.b={DEAD}"])

    @task(name="reads")
    def reads() -> None:
        raise OvsegError(f"{DEAD} is not a folder: name another")

    @flow(name="secrets", log_prints=True)
    def secrets() -> dict[str, float]:
        config = load_preset("storybook").changed("tracking", uri=DEAD)
        with track("run", root=root) as run:
            run.params(config)
            run.values({"address": DEAD, "deep": {"list": [DEAD]}})
            _write_run(root, Reading(source=DEAD), (), ())
            run.file(root / "run.json")
        with track("lost", root=root / "lost", uri=DEAD):
            pass
        logging.getLogger("ovseg.tracking").warning("no answer from %s", DEAD)
        get_run_logger().info("results in %s", root)
        reads()
        return {}

    assert print_metrics(secrets) == 2
    told = capfd.readouterr()
    assert "ovseg: http://127.0.0.1:9/" in told.err
    written = everything(root, Path(os.environ["PREFECT_HOME"]))
    assert written.count(b"http://127.0.0.1:9/") > 3, "addresses themselves are written"
    for secret in SECRETS:
        assert secret not in told.out + told.err
        assert secret.encode() not in written
        assert secret.replace('"', '\\"').encode() not in written
