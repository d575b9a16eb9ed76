"""The origin of a run: the command, the user, the commit, the Prefect flow run."""

from __future__ import annotations

import getpass
import json
import shlex
import subprocess
import sys
from pathlib import Path

from ovseg.files.urls import redacted, without_secrets
from tasks.process import TAG, identity
from tasks.server.own import is_temporary

_PROGRAMS = {"cli", "__main__"}  # `python -m flows.cli` is `ovseg`


def command_line() -> str:
    """Return the command that started this run, as it would be typed, without passwords.

    A worker's run has no command line of its own: it is the deployment's.
    """
    from prefect.runtime import deployment, flow_run

    if deployment.id:
        name = f"{flow_run.flow_name}/{deployment.name}"
        given = json.dumps(redacted(json.loads(json.dumps(deployment.parameters, default=str))))
        return shlex.join(["prefect", "deployment", "run", name, "--params", given])
    program = Path(sys.argv[0])
    name = "ovseg" if program.stem in _PROGRAMS else program.name
    return shlex.join([name, *map(_word, sys.argv[1:])])


def _word(word: str) -> str:
    """Remove secrets from a word of a command line: `http://...` or `--set name=http://...`."""
    option, separator, value = word.partition("=")
    if separator and "://" not in option:
        return f"{option}={redacted(value)}"
    return str(redacted(word))


def git_commit() -> str:
    """Return the commit of the code, with `+changes` if the tree is not clean, or `unknown`."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def origin_tags() -> dict[str, str]:
    """Return tags of the run's origin; MLflow's pages show those named `mlflow.`."""
    command, commit = command_line(), git_commit()
    words = command.split()
    source = " ".join(words[:2]) if len(words) > 1 and words[1].isidentifier() else words[0]
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    return {
        "git_commit": commit,
        "command": command[:5000],
        TAG: identity(),
        "mlflow.user": user,
        "mlflow.source.name": source,  # MLflow would show only the last part of a path
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("+changes"),
    }


def flow_tags() -> dict[str, str]:
    """Return tags that lead to this Prefect flow run, with its page if there is a server."""
    from prefect.runtime import flow_run
    from prefect.settings import PREFECT_API_URL
    from prefect.utilities.urls import url_for

    if not flow_run.id:
        return {}
    tags = {
        "prefect.flow_run_id": str(flow_run.id),
        "prefect.flow_run_name": str(flow_run.name),
        "prefect.flow_name": str(flow_run.flow_name),
    }
    # a temporary server ends with the process: its address would be dead
    lasting = PREFECT_API_URL.value() and not is_temporary()
    page = url_for("flow-run", obj_id=str(flow_run.id)) if lasting else None
    return {**tags, "prefect.url": without_secrets(page)} if page else tags
