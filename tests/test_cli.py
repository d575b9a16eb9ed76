"""The console script as a person meets it: fast help, one-line errors, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

OVSEG = Path(sys.executable).with_name("ovseg")


def ovseg(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(OVSEG), *words], capture_output=True, text=True, timeout=240, cwd=cwd
    )


def test_help_lists_every_command_and_imports_nothing_heavy():
    program = (
        "import sys; sys.argv = ['ovseg', '--help']\n"
        "from flows.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'mlflow', 'spacy', 'transformers', 'duckdb', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "mine", "finetune", "benchmark", "study", "segment", "sql", "settings"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["run", "--set", "pairing.nonsense=1"], "no setting named"),
        (["run", "--set", "arms.epochs=many"], "arms"),
        (["mine", "--captions", "a.json"], "go together"),
        (["mine", "--captions", "a.json", "--images", "b"], "does not exist"),
        (["mine", "--preset", "paper"], "give --captions"),
        (["run", "--seeds", "0"], "at least 1"),
        (["run", "--seeds", "2", "--seed", "1"], "give no seed beside it"),
        (["run", "--seeds", "2", "--set", "seed=1"], "give no seed beside it"),
        (["run", "--seed", "-1"], "whole number from 0"),
        (["run", "--seeds", "99"], "python -m flows.train_maskformer --split "),
        (["run", "--preset", "paper", "--seeds", "2"], "give --captions"),
        (["study", "--root", "nowhere"], "ovseg run --seeds 3"),
        (["segment", "missing.png", "--classes", "moon, sea"], "missing.png"),
        (["sql", "--root", "nowhere", "-c", "select 1"], "nowhere"),
    ],
)
def test_errors_are_one_line(words, message, tmp_path):
    done = ovseg(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_settings_lists_what_can_be_set():
    done = ovseg("settings", "--preset", "storybook")
    assert done.returncode == 0
    assert "pairing.clip" in done.stdout and "benchmarks.ensemble_weight" in done.stdout
