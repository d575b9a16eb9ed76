"""The console script as a person meets it: fast help, one-line errors, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ovseg.errors import OvsegError

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
    library = (
        "study",
        "segment",
        "prepare",
        "sql",
        "settings",
        "import-checkpoint",
        "export-checkpoint",
    )
    for command in ("run", "mine", "finetune", "benchmark", "tune-ensemble", *library):
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
        (["run", "--seeds", "2", "--seed", "1"], "leave the seed out"),
        (["run", "--seeds", "2", "--set", "seed=1"], "leave the seed out"),
        (["run", "--seed", "-1"], "whole number from 0"),
        (["run", "--seeds", "99"], "python -m flows.pretrain maskformer --split "),
        (["run", "--preset", "paper", "--seeds", "2"], "give --captions"),
        (["study", "--root", "nowhere"], "ovseg run --seeds 3"),
        (["prepare", "ade20k-150"], "give --root"),
        (["prepare", "--check", "voc-20", "--root", "nowhere"], "1 problem found"),
        (["segment", "missing.png", "--classes", "moon, sea"], "missing.png"),
        (["sql", "--root", "nowhere", "-c", "select 1"], "nowhere"),
        (["import-checkpoint", "gone.pth", "--out", "here"], "gone.pth"),
        (["export-checkpoint", "gone", "--out", "here.pt"], "gone"),
        (["benchmark", "--preset", "ovseg-swinb-vitl14"], "give --checkpoint"),
        (["run", "--preset", "ovseg-r101c-vitb16"], "use it with `ovseg benchmark`"),
        (["benchmark", "--preset", "paper", "--system", "zsseg"], "give --data FOLDER"),
        (["run", "--preset", "paper", "--system", "zsseg"], "give --captions"),
        (["tune-ensemble", "--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["ablate", "all", "--list", "--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["tune-ensemble", "--weights", "2"], "--weights '2': give numbers from 0 to 1"),
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
    assert "mining.pairing.clip" in done.stdout and "benchmarks.ensemble_weight" in done.stdout
    assert "benchmarks.retrieval_neighbors " in done.stdout  # on one line, to be copied


def test_a_checkpoint_comes_in_is_used_and_goes_out(tmp_path, monkeypatch):
    """In this process: four commands that load torch would take a minute of their own."""
    from PIL import Image
    from published_weights import ovseg_state, save_ovseg
    from typer.testing import CliRunner

    from ovseg.cli.app import app

    def shown(*words: str) -> str:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    monkeypatch.chdir(tmp_path)
    save_ovseg(ovseg_state(), Path("small.pth"))
    Path("names.txt").write_text("house\ntree\n")
    words = ["small.pth", "--out", "imported", "--classes", "names.txt", "--decoder-heads", "4"]
    output = shown("import-checkpoint", *words)
    for line in (
        "read      small.pth: OVSeg checkpoint, a MaskFormer and a CLIP (detectron2 layout",
        "left out  clip_adapter.pixel_mean, clip_adapter.pixel_std: CLIP's pixel statistics",
        "criterion.empty_weight: class weights of the training loss",
        "note      CLIP's activation is QuickGELU",
        'use       ovseg segment photo.jpg --classes "cat, grass" --clip imported --maskformer',
        "ovseg benchmark --preset ovseg-swinb-vitl14 --checkpoint imported --data DATA",
    ):
        assert line in output, line
    Image.new("RGB", (64, 48), "green").save("photo.png")
    models = ["--clip", "imported", "--maskformer", "imported", "--device", "cpu"]
    shown("segment", "photo.png", "--classes", "cat, grass", *models)
    assert Path("overlay.png").is_file()
    output = shown("export-checkpoint", "imported", "--out", "clip.pt")
    assert "left out  visual.mask_embedding: open_clip refuses it" in output
    with pytest.raises(OvsegError, match=r"clip\.pt already exists"):
        shown("export-checkpoint", "imported", "--layout", "ovseg", "--out", "clip.pt")
