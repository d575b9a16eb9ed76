"""A wrong request is refused on one line before torch, Prefect or MLflow is imported.

All command lines run in one process of its own, whose modules are counted at the end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "prefect", "mlflow", "transformers", "open_clip", "spacy", "matplotlib", "scipy")
OWN = ("--captions", "c.json", "--images", "images")
LABELLED = ("flows.train_segmentation", "--data", "images", "--out", "o")
WRONG = {  # what is said of a command line
    ("run", "--preset", "nosuch"): "unknown preset 'nosuch'",
    ("run", "--set", "nosuch=1"): "no setting named 'nosuch'",
    ("run", "--set", "benchmarks.embedder=nosuch"): "benchmarks.embedder: unknown name 'nosuch'",
    ("run", "--set", "arms.trains=nosuch"): "arms.trains: unknown name 'nosuch'",
    ("run", "--set", "arms.epochs=NaN"): "NaN is not a JSON number",
    ("run", "--set", "benchmarks.short_side=" + "9" * 40): "more than 64 bits",
    ("run", "--set", "arms.learning_rate=1e999"): "is too large",
    ("run", "--set", "arms=" + "[" * 90_000): "nested more than 64 deep",
    ("run", "--set", "arms=" + "[" * 20 + "]" * 20): "nested more than 16 deep",
    ("run", "--set", '{"arms":1,"arms":2}'): "has no value",
    ("run", "--set", 'arms={"a":[],"a":[]}'): "has the key 'a' twice",
    ("run", "--set", "=1"): "has no name",
    ("run", "--set", "seed.x=1"): "no setting named 'seed.x'",
    ("run", "--set", "seed=1", "--set", "seed=2"): "has two different values",
    ("run", "--seed", "1", "--set", "seed=2"): "--seed and --set seed are both given",
    ("run", "--set", "seed=true"): "whole number",
    ("run", "--set", "preset=paper"): "comes from --preset",
    ("run", "--set", "data.captions=c.json"): "comes from --captions",
    ("run", "--set", "curation=nosuch"): "no 'nosuch' in",
    ("run", "--set", "curation=gone.sql"): "gone.sql does not exist",
    ("run", "--set", "benchmarks.contexts=3"): "has no effect here",
    ("run", "--set", "arms.both.visual_tokens=3"): "has no effect here",
    ("run", "--set", "arms.window=64"): "only if arms.input is stream",
    ("run", "--set", "arms.gradient_accumulation_steps=1000"): "set it to at most batch_size",
    ("run", "--set", "arms.cache_regions=false"): "is now called arms.input",
    ("run", "--system", "lseg", "--set", "benchmarks.ensemble_weight=0.2"): "has no effect here",
    ("run", "--system", "nosuch"): "benchmarks.system: unknown name 'nosuch'",
    ("run", "--device", "gpu"): "unknown device 'gpu'",
    ("run", "--clip", "nosuch"): "no CLIP named 'nosuch'",
    ("run", "--clip", "images"): "has no open_clip_config.json",
    ("run", "--clip", "ViT-B-16/gone.pt"): "weights of ViT-B-16: gone.pt cannot be read",
    ("run", "--maskformer", "nosuch"): "nosuch cannot be read",
    ("run", "--maskformer", "images"): "has no config.json",
    ("run", "--parser", "nosuch"): "parser 'nosuch' is neither",
    ("run", "--checkpoint", "a", "--clip", "b", "--maskformer", "c"): "leave it out",
    ("run", "--root", "file"): "file is not a folder",
    ("run", "--root", "file/below"): "file is not a folder",
    ("run", "--root", ""): "is not a path",
    ("run", "--root", "~nobody-of-this-name/x"): "unknown user",
    ("run", "--captions", "c.json"): "go together",
    ("run", "--captions", "gone.json", "--images", "images"): "gone.json does not exist",
    ("run", "--captions", "c.json", "--images", "c.json"): "is not a folder",
    ("run", "--captions-format", "coco"): "has no effect here",
    ("run", "--labels", "images"): "add --source gt_label",
    ("run", "--labels", "gone"): "gone is not a folder",
    ("run", *OWN, "--labels", "images"): "has no effect without --source",
    ("run", *OWN, "--source", "gt_label"): "give --labels FOLDER",
    ("run", "--data", "."): "has none of the benchmarks of preset storybook",
    ("run", "--data", "gone"): "gone cannot be read",
    ("run", "--benchmark", "x"): "give --data FOLDER",
    ("run", "--data", ".", "--benchmark", "../x"): "is not the name of a folder",
    ("mine", "--limit", "0"): "limit",
    ("mine", "--preset", "paper"): "give --captions",
    ("mine", *OWN): "c.json",
    ("mine", "--captions", "wide.csv", "--images", "images"): "is text in UTF-16",
    ("finetune", "--data", "."): "has none of the benchmarks",
    ("benchmark", "--data", ".", "--set", 'arms={"original":[]}'): "has none of the benchmarks",
    ("benchmark", "--data", "/does/not/exist"): "/does/not/exist cannot be read",
    ("benchmark", "--preset", "paper"): "give --data FOLDER",
    ("tune-ensemble", "--weights", "2"): "give numbers from 0 to 1",
    ("tune-ensemble", "--split", "gone"): "gone is not a folder",
    ("tune-ensemble", "--allow-validation"): "needs --split FOLDER",
    ("ablate", "nosuch"): "unknown ablation 'nosuch'",
    ("ablate", "--list", "--out", "page.md"): "--out has no effect on a list",
    ("ablate", "--root", "elsewhere"): "--root has no effect on a list",
    ("ablate", "ensemble", "--clip", "nosuch"): "no CLIP named 'nosuch'",
    ("segment", "images", "--classes", "a"): "images",
    ("segment", "c.json", "--classes", "a", "--clip", "nosuch"): "no CLIP named 'nosuch'",
    ("segment", "c.json", "--classes", "a", "--device", "gpu"): "unknown device 'gpu'",
    ("prepare", "nosuch", "--root", "images", "--out", "o"): "unknown name 'nosuch'",
    ("prepare", "--check"): "--check has no effect on a list",
    ("prepare", "--workers", "3"): "--workers has no effect on a list",
    ("prepare", "voc-21", "--check", "--out", "o", "--copy"): "--copy has no effect on --check",
    ("prepare", "voc-21", "--check", "--out", "o", "--synonyms"): "--synonyms has no effect on",
    ("import-checkpoint", "gone.pth", "--out", "o"): "gone.pth cannot be read",
    ("export-checkpoint", "gone", "--out", "o.pt"): "no CLIP named 'gone'",
    ("export-checkpoint", "storybook", "--out", "o.pt", "--clip", "x"): "--clip has no effect on",
    ("sql", "--limit", "3"): "--limit has no effect on a list",
    ("sql", "--out", "x.csv"): "--out has no effect on a list",
    ("sql", "top_nouns", "--out", "x.csv", "--limit", "3"): "--limit has no effect on --out",
    ("sql", "top_nouns", "-c", "select 1"): "not both",
    ("sql", "top_nouns", "--root", "gone"): "gone",
    ("settings", "--preset", "nosuch"): "unknown preset 'nosuch'",
    ("study", "--root", "gone"): "ovseg run --seeds 3",
    ("flows.pretrain", "clip", "--nosuch"): "unrecognized arguments: --nosuch",
    ("flows.pretrain", "clip", "--out", "file"): "file is not a folder",
    ("flows.pretrain", "clip", "--out", "."): "already exists: name a new folder",
    ("flows.pretrain", "conv-clip", "--out", "."): "already exists: name a new folder",
    ("flows.pretrain", "mask2former", "--out", "."): "already exists: name a new folder",
    ("flows.pretrain", "maskformer", "--out", "."): "already exists: name a new folder",
    (
        "flows.pretrain",
        "parser",
        "--treebank",
        "images",
        "--out",
        ".",
    ): "already exists",
    ("flows.pretrain", "conv-clip", "--device", "gpu"): "unknown device 'gpu'",
    ("flows.pretrain", "mask2former", "--split", "x"): "invalid int value",
    ("flows.pretrain", "maskformer", "--clip", "nosuch"): "no CLIP named 'nosuch'",
    ("flows.pretrain", "parser"): "--treebank",
    ("flows.pretrain",): "MODEL",
    ("flows.pretrain", "nosuch"): "invalid choice: 'nosuch'",
    ("flows.pretrain", "parser", "--treebank", "gone"): "gone cannot be read",
    ("flows.train_segmentation", "--data", "gone", "--out", "o"): "gone cannot be read",
    (*LABELLED, "--recipe", "nosuch"): "unknown name 'nosuch'; choose one of swin",
    (*LABELLED, "--set", "steps"): "has no value",
}
LISTS = {
    ("settings",): "benchmarks.embedder",
    ("ablate", "--list"): "ensemble:",
    ("prepare",): "ade20k-150:",
    ("sql",): "top_nouns",
    **{(name, "--help"): "--help" for name in ("run", "ablate", "segment", "sql", "study")},
}
PROGRAM = """
import contextlib, io, json, runpy, sys
from flows.cli import main
answers = []
for words in json.load(open("lines.json")):
    sys.argv, said, shown, code = ["ovseg", *words], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        try:
            if words[0].startswith("flows."):
                sys.argv = words
                runpy.run_module(words[0], run_name="__main__")
            main()
        except SystemExit as end:
            code = end.code or 0
    answers.append([code, said.getvalue(), shown.getvalue()])
json.dump([answers, sorted(sys.modules)], open("answers.json", "w"))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each command line answered, and the modules that all of them together imported."""
    home = tmp_path_factory.mktemp("refused")
    (home / "images").mkdir()
    (home / "c.json").write_text("{}")
    (home / "file").write_text("")
    (home / "wide.csv").write_text("image,caption\na.jpg,A dog.\n", encoding="utf-16")
    lines = [*WRONG, *LISTS]
    (home / "lines.json").write_text(json.dumps(lines))
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=home, env=environment, check=True)
    found, modules = json.loads((home / "answers.json").read_text())
    left = sorted(path.name for path in home.iterdir())
    return dict(zip(lines, found, strict=True)), modules, left


@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(words)[:70])
def test_a_wrong_request_is_one_line_and_exit_code_2(words, answers):
    code, said, _ = answers[0][words]
    assert code == 2 and WRONG[words] in said
    if words[1:2] != ("--limit",) or words[0] != "mine":  # whose usage is shown, too
        assert len(said.splitlines()) == 1 and said.startswith("ovseg: ")


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_lists_and_help_are_shown(words, answers):
    code, said, shown = answers[0][words]
    assert code == 0 and not said and LISTS[words] in shown


def test_none_of_it_imports_what_takes_seconds_nor_leaves_a_file(answers):
    _, modules, left = answers
    assert not set(HEAVY) & set(modules)
    assert left == ["answers.json", "c.json", "file", "images", "lines.json", "wide.csv"]
