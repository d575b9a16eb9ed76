"""Every file in `sql/`: it runs, says what it is, and a check finds the row that is wrong."""

import duckdb
import pytest

from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.query import run_query
from ovseg.files.sql_files import sql_file, sql_files
from ovseg.stages import schema

VIEWS, QUERIES, CHECKS = (
    {file.name: file for file in sql_files(kind)} for kind in ("views", "queries", "tests")
)
EVERYTHING = [*VIEWS.values(), *QUERIES.values(), *CHECKS.values()]
EVERYTHING += [*sql_files("curation"), *sql_files("report")]


@pytest.fixture(scope="module")
def con(finished):
    with open_catalog(finished.root) as con:
        yield con


def records(con, sql):
    return run_query(con, sql).to_pylist()


@pytest.mark.parametrize(
    "file", EVERYTHING, ids=lambda file: f"{file.path.parent.name}-{file.name}"
)
def test_every_file_is_one_documented_select_with_explicit_columns(file):
    (statement,) = duckdb.extract_statements(file.text)
    assert statement.type == duckdb.StatementType.SELECT
    assert file.title
    header = "\n".join(file.header)
    assert "Rows:" in header if file.path.parent.name == "tests" else "Grain:" in header
    code = "\n".join(line for line in file.text.splitlines() if not line.startswith("--"))
    assert "count(*)" in code or "*" not in code.replace(" * ", "")
    assert "select *" not in code
    assert ";" not in code
    assert max(map(len, file.text.splitlines())) <= 100


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_answers_something(con, name):
    assert run_query(con, QUERIES[name].text).num_rows > 0


def test_images_in_benchmarks_are_listed_once_a_benchmark(con):
    found = records(con, QUERIES["in_benchmarks"].text)
    assert [(row["image_id"], row["benchmark"], row["told_by"]) for row in found] == [
        (6, "coco-stuff-171", "id"),
        (6, "my-street", "sha256"),
    ]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_rows_and_documents_its_columns(con, name):
    table = run_query(con, f"from {name}")
    assert table.num_rows > 0
    header = " ".join(VIEWS[name].header)
    if "those of" in header or "that say what" in header:
        return
    spelled = header.replace(",", " ").replace("(", " ").replace(".", " ").split()
    parts = ("_seen", "_unseen", "_harmonic")
    for column in table.column_names:
        assert column in spelled or column.endswith(parts), f"{name} does not document {column}"


# --------------------------------------------------------------------------------------
# What the views say of the hand-made run


def test_noun_frequency_counts_mentions_images_and_pairs(con, toy):
    found = {row["noun"]: row for row in records(con, "from noun_frequency")}
    assert set(found) == {n["noun"] for n in toy.noun_rows() if "noun" in n}
    dog = found["dog"]
    assert (dog["mentions"], dog["images"], dog["head"], dog["is_compound"]) == (5, 3, None, False)
    pairs = [row for row in toy.pair_rows() if row["noun"] == "dog"]
    kept = [row["clip_similarity"] for row in pairs if row["kept"]]
    assert (dog["pairs"], dog["kept_pairs"]) == (len(pairs), len(kept))
    assert dog["mean_similarity"] == pytest.approx(sum(kept) / len(kept))
    assert found["picket fence"]["head"] == "fence"
    assert found["picket fence"]["is_compound"]
    night = found["night"]
    assert (night["mentions"], night["kept_mentions"], night["pairs"]) == (1, 0, 0)


def test_image_coverage_has_a_row_for_every_image(con, toy):
    found = {row["image_id"]: row for row in records(con, "from image_coverage")}
    assert sorted(found) == [1, 2, 3, 4, 5, 6]
    assert found[5] | {"image_path": 0} == {
        "dataset": "toy",
        "image_id": 5,
        "image_path": 0,
        "image_kept": True,
        "captions": 2,
        "nouns": 1,
        "proposals": 0,
        "pairs": 1,
        "kept_pairs": 0,
        "covered_fraction": 0.0,
    }
    kept = [row for row in toy.pair_rows() if row["kept"] and row["image_id"] == 3]
    areas = {row["proposal_id"]: row["area_fraction"] for row in kept}
    assert found[3]["covered_fraction"] == pytest.approx(min(1, sum(areas.values())), abs=1e-6)


def test_gate_funnel_accounts_for_every_row(con, toy):
    found = records(con, "from gate_funnel")
    assert sum(row["n"] for row in found if row["what"] == "images") == len(toy.image_rows())
    captions = {row["outcome"]: row["n"] for row in found if row["what"] == "captions"}
    # of 12: image 6 is dropped, "Wow!" has no noun, "One night." only a stop noun
    assert captions == {
        "kept": 9,
        "image_dropped": 1,
        "no_noun": 1,
        "every_noun_dropped": 1,
    }
    assert sum(row["n"] for row in found if row["what"] == "pairs") == len(toy.pair_rows())
    images = {row["outcome"]: row["n"] for row in found if row["what"] == "images"}
    assert images == {"kept": 5, "in_benchmark": 1}
    for step in {row["step"] for row in found}:
        assert sum(row["share"] for row in found if row["step"] == step) == pytest.approx(1)


def test_mined_pairs_are_of_the_latest_round():
    con = duckdb.connect()
    con.execute(
        "create table pairs as select p as pair_id, s as source, d as dataset, r as round, "
        + ", ".join(
            f"null as {name}"
            for name in schema.PAIRS.names
            if name not in ("pair_id", "source", "dataset", "round")
        )
        + " from (values ('a', 'mined', 'x', 0), ('b', 'mined', 'x', 1), ('c', 'mined', 'y', 0),"
        " ('d', 'gt_label', 'x', 5)) as t(p, s, d, r)"
    )
    found = con.sql(sql_file("views", "mined_pairs").text).fetchall()
    assert sorted(row[0] for row in found) == ["b", "c"]


def test_leaderboard_puts_metrics_side_by_side(con):
    found = {row["arm"]: row for row in records(con, "from leaderboard")}
    assert found["original"]["miou_union"] == 0.3
    assert found["finetuned"]["mask_acc"] == 0.6
    assert found["original"]["fwiou"] is None
    assert [row["arm"] for row in records(con, QUERIES["leaderboard"].text)] == [
        "finetuned",
        "original",
    ]


def test_learning_curves_count_the_gain_from_before_the_first_step(con):
    found = {
        (row["phase"], row["step"]): row
        for row in records(con, "from learning_curves where part = 'all'")
    }
    assert {key: row["gain"] for key, row in found.items()} == {
        (1, 0): 0.0,
        (1, 2): 0.25,
        (2, 0): 0.25,
        (2, 2): 0.375,
    }
    last = records(con, QUERIES["learning_curves"].text)[-1]
    assert (last["total_step"], last["seen"], last["unseen"]) == (4, 0.625, None)
    assert (last["all_classes"], last["gain"]) == (0.625, 0.375)


def test_class_exposure_finds_classes_by_synonym(con):
    found = {
        row["class_name"]: row
        for row in records(con, "from class_exposure where benchmark = 'coco-stuff-171'")
    }
    assert found["dog"]["mentions"] == 5
    assert found["fence"]["images"] == 3
    assert found["sky-other"]["mentions"] == 0
    words = records(con, "from class_words where class_name = 'building-other'")
    assert {row["word"] for row in words} == {"building other", "building"}


def test_confused_nouns_name_the_winner_of_the_proposal(con, toy):
    rows = toy.pair_rows()
    expected = {
        (row["noun"], other["noun"])
        for row in rows
        for other in rows
        if row.get("noun_rank", 1) > 1
        and other.get("noun_rank") == 1
        and row["noun"] != other["noun"]
        and (row["image_id"], row["proposal_id"]) == (other["image_id"], other["proposal_id"])
    }
    found = records(con, QUERIES["confused_nouns"].text)
    assert {(row["noun"], row["winner"]) for row in found} == expected
    assert expected
    related = {(row["noun"], row["winner"]): row["related"] for row in found}
    assert all(
        flag == (noun.endswith(winner) or winner.endswith(noun))
        for (noun, winner), flag in related.items()
    )


def test_per_class_gain_is_against_the_original(con):
    found = {row["class_name"]: row for row in records(con, QUERIES["per_class_gain"].text)}
    assert found["dog"]["iou_gain"] == pytest.approx(0.1)
    assert found["carpet"]["iou_gain"] is None
    assert {row["arm"] for row in found.values()} == {"finetuned"}


def test_seen_and_unseen_average_what_is_defined(con):
    found = {
        (row["arm"], row["seen"]): row for row in records(con, QUERIES["seen_and_unseen"].text)
    }
    unseen = found["original", False]
    assert (unseen["classes"], unseen["miou_union"], unseen["mask_acc"]) == (2, 0.5, 0.5)


def test_vocabulary_overlap_counts_named_classes(con):
    found = {row["benchmark"]: row for row in records(con, QUERIES["vocabulary_overlap"].text)}
    assert found["coco-stuff-171"]["classes"] == 171
    assert found["ade20k-150"]["classes"] == 150
    assert found["voc-20"]["named"] == 2  # cat and dog
    assert len(found["voc-20"]["never_paired"]) == 8


def test_confused_classes_count_pixels_without_a_class(con):
    found = {
        (row["arm"], row["class_name"], row["predicted"]): row["pixels"]
        for row in records(con, QUERIES["confused_classes"].text)
    }
    assert found["original", "dog", "moon"] == 40
    assert found["finetuned", "moon", "(none)"] == 20


# --------------------------------------------------------------------------------------
# Checks
