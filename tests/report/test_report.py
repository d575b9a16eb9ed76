"""The report of a run: what it says, escapes and leaves out, and that it repeats itself."""

import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from report_run import CAPTION, HOSTILE

from ovseg.comparison.words import interval
from ovseg.config.reporting import ReportConfig
from ovseg.data.images import REASONS
from ovseg.report import mined_rows as data
from ovseg.report.plots.canvas import percent
from ovseg.report.sections import NO_BENCHMARK
from ovseg.report.stage import REPORT, report_file
from ovseg.report.summary import Summary, show
from ovseg.stages.run import stage_folder

SECTIONS = (
    "scores", "funnel", "pairs", "segmentations", "distributions", "training", "classes",
    "mistakes", "origin",
)  # fmt: skip
VOID = {"meta", "br", "input", "image", "use", "path", "rect"}


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and the text of each section."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.section = [], {}, ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]

    def handle_data(self, text):
        self.text[self.section] = self.text.get(self.section, "") + text

    def all(self, tag, css=None):
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (css is None or css in (attrs.get("class") or "").split())
        ]


@pytest.fixture(scope="module")
def html(report_run):
    return report_run.html()


@pytest.fixture(scope="module")
def page(html):
    return Parsed(html)


def test_every_section_is_there_and_none_is_empty(page):
    assert tuple(each["id"] for each in page.all("section")) == SECTIONS
    assert not page.all("p", "empty")
    assert {a["href"] for a in page.all("a")} >= {f"#{name}" for name in SECTIONS}


def test_the_scores_are_those_of_the_stages(report_run, page):
    for arm, label in report_run.config.arms:
        scores = report_run.inputs[f"scores/storybook/{arm}"].stats["scores"]
        assert label in page.text["scores"]
        for metric in ("mask_acc_seen", "mask_acc_unseen", "miou_union_seen", "miou_union"):
            assert percent(scores[metric]) in page.text["scores"]
        rows = pq.read_table(
            report_run.inputs[f"scores/storybook/{arm}"].payload() / "scores.parquet"
        ).to_pylist()
        bounds = {row["metric"]: (row["low"], row["high"]) for row in rows}
        for metric in ("mask_acc_seen", "miou_union_unseen", "miou_union"):
            assert interval(*bounds[metric]) in page.text["scores"]
    assert "miniature" in page.text[""].lower()
    assert "photographs" in page.text["scores"]


def test_the_counts_are_those_of_the_tables(report_run, page):
    table = report_run.inputs["table"]
    stats = table.stats
    assert f"{stats['kept']} kept pairs" in " ".join(page.text["funnel"].split())
    with data.open_tables(report_run.inputs) as con:
        counts, steps = data.counts(con), data.funnel(con)
        nouns = data.nouns(con)
    assert counts["pairs"] == stats["rows"] and counts["kept"] == stats["kept"]
    assert sum(row["n"] for row in steps if row["what"] == "pairs") == stats["rows"]
    assert sum(row["pairs"] for row in nouns) == stats["kept"]
    right = sum(row["right_pairs"] for row in nouns)
    assert 0 < right < stats["kept"]
    assert f"{right} of them right" in " ".join(page.text["funnel"].split())


def test_every_kept_pair_has_a_card_with_its_verdict(report_run, page):
    cards = [attrs["class"] for attrs in page.all("li") if attrs.get("class") in ("right", "wrong")]
    mistakes = report_run.config.mistakes
    assert len(cards) - mistakes == report_run.inputs["table"].stats["kept"]
    assert cards.count("right") == sum(row["right_pairs"] for row in report_run.ask(data.nouns))
    assert len(page.all("details", "noun")) == len(report_run.ask(data.nouns))


def test_every_plot_is_named_read_and_backed_by_numbers(html):
    figures = re.findall(r'<figure class="plot".*?</figure>', html, flags=re.DOTALL)
    assert len(figures) >= 10
    for figure in figures:
        title = re.search(r"<h3>(.+?)</h3>", figure).group(1)
        assert len(title) > 5
        assert re.search(r'<svg [^>]*role="img" aria-label="[^"]{20,}"', figure), title
        assert len(re.search(r"<figcaption>(.+?)</figcaption>", figure).group(1)) > 20
        assert figure.count("<tr>") >= 2 and "<caption>" in figure, title
        drawn = figure[figure.index("<svg") : figure.index("</svg>")]
        words = re.findall(r"<text[^>]*>([^<]+)</text>", drawn)
        assert any("(" in word for word in words), f"{title}: no axis with a unit"
        assert "#fe" not in drawn and "var(--" in drawn  # every color is the page's


def test_ids_are_unique_and_references_lead_somewhere(page):
    ids = [attrs["id"] for _, attrs in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for _, attrs in page.elements:
        href = attrs.get("href") or ""
        if href.startswith("#"):
            assert href[1:] in ids
        for value in attrs.values():
            for name in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert name in ids


def test_nothing_is_loaded_from_anywhere(html, page):
    for _, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            if attrs.get(name):
                assert attrs[name].startswith(("#", "data:image/"))
    assert "@import" not in html and "url(http" not in html
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]


def test_what_users_wrote_is_text(html, page):
    assert HOSTILE not in html and CAPTION not in html
    assert HOSTILE in page.text["pairs"] and "document.title = 'owned'" in page.text["pairs"]
    assert len(page.all("script")) == 1 and not page.all("img")
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    marked = re.findall(r"<mark>(.*?)</mark>", html)
    assert "&lt;img src=x onerror=alert(1)&gt;" in marked


def test_images_that_cannot_be_read_leave_their_reason(report_run, html):
    shown = {pair["image_id"] for pair in report_run.ask(_all_pairs)}
    assert {2, 4} <= shown
    assert REASONS["missing_file"] in html and REASONS["not_an_image"] in html


def _all_pairs(con):
    return data.sample_pairs(con, [row["noun"] for row in data.nouns(con)], 100)


def test_equal_runs_leave_equal_bytes(report_run, html, tmp_path):
    again = report_run.report(tmp_path)
    assert report_file(again).read_text() == html
    assert again.folder.name == report_run.report().folder.name
    assert not re.search(r"20\d\d-\d\d-\d\d|<dc:date>", html)
    assert str(report_run.root) not in html


def test_where_things_lie_is_not_in_the_digest(report_run, tmp_path):
    config, inputs = report_run.config, report_run.inputs
    moved = config.model_copy(update={"image_root": tmp_path})
    other = config.model_copy(update={"nouns": 3})
    folders = [stage_folder(REPORT, c, inputs, tmp_path)[0] for c in (config, moved, other)]
    assert folders[0] == folders[1] != folders[2]


# --------------------------------------------------------------------------------------
# Runs that lack something


def test_a_run_of_pairs_alone(report_run, tmp_path):
    page = Parsed(
        report_run.html(
            tmp_path,
            without=("scores", "benchmark", "checkpoint", "curve", "truth"),
            benchmark=None,
            miniature=False,
        )
    )
    for name in ("scores", "segmentations", "classes", "mistakes"):
        assert NO_BENCHMARK in page.text[name], name
    assert "No model was trained" in page.text["training"]
    assert "no ground truth for pairs" in page.text["distributions"]
    assert "not judged" in page.text["pairs"]
    assert not page.all("li", "right") and not page.all("li", "wrong")
    assert not page.all("p", "callout")
    assert "right" not in page.text["funnel"]


def test_a_run_without_truth_or_curves(report_run, tmp_path):
    page = Parsed(report_run.html(tmp_path, without=("truth", "curve")))
    assert "No learning curve" in page.text["training"]
    assert "Loss over training" in page.text["training"]
    assert "no ground truth for pairs" in page.text["distributions"]
    assert not page.all("fieldset")


def test_a_run_of_the_original_alone(report_run, tmp_path):
    without = ("checkpoint", "curve", "scores/storybook/finetuned", "benchmark/storybook/finetuned")
    page = Parsed(report_run.html(tmp_path, without=without))
    assert "No model was trained" in page.text["classes"]
    assert "original CLIP" in page.text["mistakes"]
    assert len(page.all("article", "segmented")) == 3
    assert "images under the original CLIP. Numbers" in page.text["segmentations"]
    assert "adapted" not in page.text["segmentations"].lower()


def test_a_run_without_the_original(report_run, tmp_path):
    without = ("scores/storybook/original", "benchmark/storybook/original")
    arms = (("finetuned", "fine-tuned"),)
    page = Parsed(report_run.html(tmp_path, without=without, arms=arms))
    assert "images under the adapted CLIP (fine-tuned). Numbers" in page.text["segmentations"]
    assert "original" not in page.text["segmentations"].lower()
    assert "original (" not in page.text["mistakes"]


def test_a_run_whose_gates_keep_nothing(toy, report_run, tmp_path):
    from ovseg.stages.run import run_stage

    pairs = [{**row, "kept": False, "drop_reason": "low_margin"} for row in toy.pair_rows()]
    table = toy.publish_table(tmp_path, pairs)
    roles = ("images", "nouns", "proposals")
    inputs = {**{role: report_run.inputs[role] for role in roles}, "table": table}
    report = run_stage(REPORT, ReportConfig(preset="tiny"), inputs, tmp_path)
    page = Parsed(report_file(report).read_text())
    assert "No pair was kept" in page.text["pairs"]
    assert "low margin" in page.text["funnel"]


def test_benchmark_images_that_are_gone(report_run, tmp_path):
    import shutil

    world = tmp_path / "world"
    shutil.copytree(report_run.config.benchmark.root, world)
    for path in (world / "images").glob("*.png"):
        path.write_bytes(b"")
    gone = report_run.config.benchmark.model_copy(update={"root": world})
    html = report_run.html(tmp_path / "out", benchmark=gone)
    assert html.count(REASONS["zero_bytes"]) >= 3


def test_the_last_line_a_run_prints_is_where_the_report_lies(tmp_path, capsys):
    summary = Summary(
        preset="storybook",
        root=tmp_path,
        counts={},
        scores={},
        sheet=None,
        report=tmp_path / "report.html",
        miniature=True,
    )
    show(summary)
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last.split() == ["report", str(tmp_path / "report.html")]
