"""What a run says of itself: percentages, a table that parses, names MLflow accepts."""

import io

import pytest
from rich.console import Console

from ovseg.config.presets import ARMS, load_preset
from ovseg.report.summary import (
    COLUMNS,
    Summary,
    markdown,
    metrics,
    render,
    show,
    show_scores,
    summarize,
)

SCORES = {
    "storybook": {
        "original": {"miou_union": 0.1234, "miou_gt": 0.2, "mask_acc_seen": 1.0},
        "both": {"miou_union": 0.5, "miou_union_seen": 0.0},
    }
}


@pytest.fixture
def summary(tmp_path):
    return Summary(
        preset="storybook",
        root=tmp_path,
        counts={"kept pairs": 12345, "precision of kept pairs": 0.875},
        scores=SCORES,
        sheet=tmp_path / "contact-sheet.png",
        miniature=True,
        mlflow="open http://mlflow.example:5000/#/experiments/1/runs/abc",
    )


def printed(renderable):
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    return console.file.getvalue()


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_markdown_tables_are_well_formed(summary):
    lines = markdown(summary).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| model"))
    heading, ruler, first, second = map(cells, lines[start : start + 4])
    assert heading == ["model", *(text.replace("\n", " ") for text in COLUMNS.values())]
    assert ruler == ["---"] + ["---:"] * len(COLUMNS)
    assert first == ["original CLIP", "100.0", "-", "-", "-", "12.3", "20.0"]
    assert second == [ARMS["both"], "-", "-", "0.0", "-", "50.0", "-"]
    assert lines[start - 1] == lines[start + 4] == ""
    for number, line in enumerate(lines):
        if line.startswith("|"):
            again = lines[number - 1]
            assert not again.startswith("|") or len(cells(again)) == len(cells(line))
    assert "| kept pairs | 12,345 |" in lines
    assert "| precision of kept pairs | 87.5 % |" in lines


def test_a_miniature_is_labelled_one(summary):
    large = summary.model_copy(update={"miniature": False})
    assert "not comparable with photographs" in markdown(summary)
    assert "not comparable with photographs" in printed(render(summary))
    assert "photographs" not in markdown(large) and "photographs" not in printed(render(large))


def test_the_terminal_shows_scores_counts_and_where_to_look(summary):
    console = Console(file=io.StringIO(), width=160)
    show(summary, console)
    text = console.file.getvalue()
    for words in ("original CLIP", "12.3", "12,345", "87.5 %", "contact-sheet.png", summary.mlflow):
        assert words in text
    narrow = Console(file=io.StringIO(), width=40)
    show(summary.model_copy(update={"sheet": None, "mlflow": None}), narrow)
    text = narrow.file.getvalue()
    assert "contact-sheet" not in text and "MLflow" not in text
    assert f"ovseg sql --root {summary.root} top_nouns" in text  # in one piece, to be copied


def test_the_table_fits_a_terminal_of_80_columns(summary):
    console = Console(file=io.StringIO(), width=80)
    console.print(render(summary))
    assert ARMS["both"] in console.file.getvalue()


def test_mlflow_accepts_the_names(summary):
    from mlflow.utils.validation import _validate_metric

    flat = metrics(summary)
    assert flat["mining/precision_of_kept_pairs"] == 0.875
    assert flat["storybook/original/miou_union"] == 0.1234
    for name, value in flat.items():
        _validate_metric(name, float(value), 0, 0)


def test_a_summary_survives_json(summary):
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_summarize_reads_manifests(finished):
    mined = {role: finished.manifests[role] for role in ("images", "nouns", "proposals", "table")}
    for role, name in (("nouns", "mentions"), ("proposals", "proposals")):
        mined[role] = mined[role].model_copy(update={"stats": {name: 12}})
    scored = {"storybook/original": finished.manifests["scores/original"]}
    config = load_preset("storybook")
    made = summarize(config, mined, scored, truth=None, sheet=None)
    assert made.miniature and made.sheet is None
    assert made.counts["images"] == 6
    assert made.counts["pairs"] == mined["table"].rows == mined["table"].stats["rows"]
    assert made.counts["kept pairs"] == mined["table"].stats["kept"] > 0
    assert list(made.scores) == ["storybook"] and list(made.scores["storybook"]) == ["original"]


def test_scores_alone(finished, capsys):
    show_scores({}, miniature=True, oracles={})
    assert "No benchmark is configured" in capsys.readouterr().out
    scored = {"storybook/original": finished.manifests["scores/original"]}
    show_scores(scored, miniature=False, oracles={})
    plain = capsys.readouterr().out
    assert "original CLIP" in plain and "oracle" not in plain
    show_scores(scored, miniature=False, oracles={"storybook": "gt_labels"})
    assert "storybook, oracle gt_labels, in %" in capsys.readouterr().out


def test_an_oracle_is_named_above_its_scores(summary):
    oracle = summary.model_copy(update={"oracles": {"storybook": "gt_masks"}})
    assert "## storybook, oracle gt_masks, in %" in markdown(oracle)
    assert "storybook, oracle gt_masks, in %" in printed(render(oracle))
    assert "oracle" not in markdown(summary)
