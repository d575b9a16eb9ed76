"""Seen classes: by names, by the rule over vocabularies, by published splits in files."""

import itertools

import duckdb
import pytest

from ovseg.catalog.relations import RELATIONS
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.vocabulary import read_vocabulary, vocabulary_names
from ovseg.errors import OvsegError
from ovseg.evaluation.splits import benchmark_splits, classes_trained_on, published_split
from ovseg.files.sql_files import sql_file

CLASSES = ("House", "tree", "wall-brick", "sofa, couch, lounge", "moon")


def test_names_go_by_stripped_lower_case_and_nothing_asked_is_no_split():
    assert benchmark_splits(BenchmarkConfig(), CLASSES) == {}
    named = BenchmarkConfig(seen=("house ", "Moon", "elsewhere"))
    assert benchmark_splits(named, CLASSES) == {"": [0, 4]}
    assert benchmark_splits(BenchmarkConfig(seen=("elsewhere",)), CLASSES) == {"": []}


def test_the_rule_joins_names_and_synonyms_of_both_sides():
    # COCO-Stuff has house, tree, wall-brick and couch; no moon
    assert classes_trained_on("mine", CLASSES, ["coco-stuff-171"]) == [0, 1, 2, 3]
    assert classes_trained_on("mine", ("brick wall", "dining  Table"), ["coco-stuff-171"]) == [0, 1]
    # by a listed synonym of the benchmark: VOC's diningtable is a dining table
    names = [each.name for each in read_vocabulary("voc-20")]
    assert classes_trained_on("voc-20", names, ["coco-stuff-171"]) == list(range(20))
    table = names.index("diningtable")
    assert table not in classes_trained_on("mine", names, ["coco-stuff-171"])
    config = BenchmarkConfig(benchmark="mine", trained_on=("coco-stuff-171", "voc-20"))
    assert benchmark_splits(config, CLASSES) == {"": [0, 1, 2, 3]}
    with pytest.raises(OvsegError, match="seen and trained_on"):
        benchmark_splits(config.model_copy(update={"seen": ("moon",)}), CLASSES)
    with pytest.raises(OvsegError, match="no class names of 'nowhere'"):
        classes_trained_on("mine", CLASSES, ["nowhere"])


PARTS = "class_name\tpart\nmoon\tseen\nhouse\tseen\ntree\tunseen\nwall-brick\tunseen\n"
SOFA = "sofa, couch, lounge\tunseen\n"


def test_a_published_split_is_a_file_of_names(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text(PARTS + SOFA, encoding="utf-8")
    assert published_split("mine", str(path), CLASSES) == [0, 4]
    config = BenchmarkConfig(seen=("tree",), seen_split=str(path))
    assert benchmark_splits(config, CLASSES) == {"": [1], "_published": [0, 4]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PARTS, r"do not name the same classes: 'sofa, couch, lounge' is only in one"),
        (PARTS + SOFA + "sun\tseen\n", "do not name the same classes: 'sun'"),
        (PARTS + SOFA.replace("unseen", "no"), "a part is seen or unseen, not 'no'"),
        ("name\tpart\nmoon\tseen\n", "the column class_name is missing"),
        ("", "the column class_name is missing"),
    ],
)
def test_a_split_of_other_classes_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OvsegError, match=message):
        published_split("mine", str(path), CLASSES)


@pytest.mark.parametrize(
    ("benchmark", "split", "seen"),
    [("coco-stuff-171", "156-15", 156), ("voc-20", "15-5", 15), ("ade20k-150", "coco-stuff", 67)],
)
def test_a_shipped_split_goes_by_benchmark_and_name(benchmark, split, seen):
    names = [each.name for each in read_vocabulary(benchmark)]
    found = benchmark_splits(BenchmarkConfig(benchmark=benchmark, seen_split=split), names)
    assert len(found["_published"]) == seen
    with pytest.raises(OvsegError, match=rf"{benchmark} has no split '3-2'; choose one of {split}"):
        published_split(benchmark, "3-2", names)
    with pytest.raises(OvsegError, match=r"do not name the same classes: 'moon'"):
        published_split(benchmark, split, [*names, "moon"])


def test_no_split_is_named_where_there_is_none():
    with pytest.raises(OvsegError, match=r"mine has no split '156-15'; choose one of none"):
        published_split("mine", "156-15", CLASSES)
    with pytest.raises(OvsegError, match="cannot be read as a split"):
        published_split("mine", "nowhere.tsv", CLASSES)


def test_a_class_of_ones_own_is_not_seen_by_the_name_of_another():
    # COCO-Stuff has counter-other, a counter; here that word is a class of its own
    own = ("buffet, counter, sideboard", "counter")
    assert classes_trained_on("mine", own, ["coco-stuff-171"]) == [1]
    assert classes_trained_on("mine", own[:1], ["coco-stuff-171"]) == [0]


def test_the_rule_is_the_view_seen_classes():
    with duckdb.connect() as con:
        con.execute(f"create view vocabularies as {RELATIONS['vocabularies'].select([])}")
        for view in ("class_words", "seen_classes"):
            text = sql_file("views", view).text
            con.execute(f"create view {view} as {text}")
        rows = con.execute(
            "select benchmark, trained_on, list(class_id order by class_id) from seen_classes"
            " where seen group by all"
        ).fetchall()
    joined = {row[:2]: row[2] for row in rows}
    everything = vocabulary_names()
    for benchmark, trained in itertools.product(everything, everything):
        names = [each.name for each in read_vocabulary(benchmark)]
        by_rule = classes_trained_on(benchmark, names, [trained])
        assert joined.get((benchmark, trained), []) == by_rule, (benchmark, trained)
