"""The catalogue: pointers that replace and stay, views over named files only."""

import json
import shutil

import duckdb
import pytest

from ovseg.catalog.catalog import build_catalog, open_catalog
from ovseg.catalog.query import failed_checks, named_query, run_query
from ovseg.catalog.relations import RELATIONS
from ovseg.cli.sql import sql_command
from ovseg.config.base import Config
from ovseg.config.mining import NounsConfig, load_curation
from ovseg.config.scoring import ScoresConfig
from ovseg.files.sql_files import sql_files
from ovseg.mining.pairs.curation import CURATE
from ovseg.mining.pairs.sql import sql_type
from ovseg.stages import schema
from ovseg.stages.run import run_stage


def rows(con, sql):
    return con.sql(sql).fetchall()


def value(con, sql):
    return rows(con, sql)[0][0]


def described(con, name):
    return {row[0]: row[1] for row in rows(con, f"describe {name}")}


def test_without_anything_published_every_relation_is_there_and_empty(tmp_path):
    build_catalog(tmp_path / "new", {})
    with open_catalog(tmp_path / "new") as con:
        for name in RELATIONS:
            if name not in ("vocabularies", "published_results"):
                assert value(con, f"select count(*) from {name}") == 0, name
        assert value(con, "select count(*) from vocabularies") > 300


def test_an_empty_relation_has_the_types_of_a_full_one(finished, tmp_path):
    build_catalog(tmp_path, {})
    with open_catalog(tmp_path) as empty, open_catalog(finished.root) as full:
        for name, kind in RELATIONS.items():
            assert described(empty, name) == described(full, name), name
            assert list(described(full, name)) == kind.schema.names
            assert value(full, f"select count(*) from {name}") > 0, name


def test_every_arrow_type_in_use_has_a_name_in_sql():
    con = duckdb.connect()
    for kind in RELATIONS.values():
        for column in kind.schema:
            con.execute(f"select cast(null as {sql_type(column.type)})")


def test_the_file_holds_views_over_absolute_paths_and_rows_of_few(finished):
    with open_catalog(finished.root) as con:
        tables = {row[0] for row in rows(con, "select table_name from duckdb_tables()")}
        stored = {view.name for view in sql_files("views") if view.stored}
        assert tables == {*stored, *(name for name, kind in RELATIONS.items() if kind.constant)}
        text = value(con, "select sql from duckdb_views() where view_name = 'pairs'")
    assert "*" not in text
    assert str(finished.root.resolve()).replace("'", "''") in text


def test_it_opens_from_another_folder_and_read_only(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_catalog(finished.root) as con:
        assert value(con, "select count(*) from pairs") > 0
        with pytest.raises(duckdb.Error, match="read-only"):
            con.execute("create table t as select 1")


def test_a_file_no_manifest_names_does_not_exist(toy, tmp_path):
    table = toy.publish_table(tmp_path)
    build_catalog(tmp_path, {"table": table})
    other = toy.publish_table(tmp_path, round=1)
    with open_catalog(tmp_path) as con:
        assert value(con, "select max(round) from pairs") == 0
    build_catalog(tmp_path, {"table": other})
    with open_catalog(tmp_path) as con:
        assert value(con, "select max(round) from pairs") == 1


def test_a_new_result_replaces_its_own_kind_and_no_other(toy, tmp_path):
    first = toy.publish_table(tmp_path)
    build_catalog(tmp_path, {"table": first, "other": toy.publish_table(tmp_path, dataset="two")})
    mined_again = toy.publish_table(tmp_path, toy.pair_rows()[:4])
    nouns = toy.publish_rows(
        tmp_path, "nouns", [toy.noun_rows()], schema.NOUNS, NounsConfig(parser="x")
    )
    build_catalog(tmp_path, {"table": mined_again, "nouns": nouns})
    with open_catalog(tmp_path) as con:
        assert dict(rows(con, "select dataset, count(*) from pairs group by all")) == {
            "toy": 4,
            "two": first.rows,
        }
        assert sorted(rows(con, "select stage, dataset, round, rows from published")) == [
            ("nouns", "toy", None, nouns.rows),
            ("tables/pairs", "toy", "0", 4),
            ("tables/pairs", "two", "0", first.rows),
        ]


def test_a_catalog_that_shows_the_same_is_not_written_again(finished, tmp_path):
    copied = tmp_path / "root"
    shutil.copytree(finished.root, copied)
    path = build_catalog(copied, {})  # names the files of the copy from now on
    written = path.stat().st_ino
    assert build_catalog(copied, {}).stat().st_ino == written
    path.write_bytes(path.read_bytes()[:1000])  # torn
    assert build_catalog(copied, {}).stat().st_ino != written
    with open_catalog(copied) as con:
        assert value(con, "select count(*) from pairs") > 0


def test_scores_of_an_arm_replace_its_older_ones_and_hide_their_run(toy, tmp_path):
    for gain in (0.0, 0.2):
        benchmark, scores = toy.publish_benchmark(tmp_path, "original", gain)
        build_catalog(tmp_path, {"benchmark": benchmark, "scores": scores})
    with open_catalog(tmp_path) as con:
        assert rows(con, "select arm, benchmark_digest, images from benchmark_runs") == [
            ("original", benchmark.digest, 2)
        ]
        assert rows(con, "select distinct benchmark_digest from confusion") == [(benchmark.digest,)]
        config = value(con, "select config from benchmark_runs")
        assert json.loads(config)["ensemble_weight"] == 0.2


def test_systems_stand_side_by_side_and_each_arm_gains_over_its_own_systems(toy, tmp_path):
    gains = {("ovseg", "both"): 0.1, ("ovseg", "original"): 0.0, ("zsseg", "original"): 0.3}
    for (system, arm), gain in gains.items():
        benchmark, scores = toy.publish_benchmark(tmp_path, arm, gain, system)
        build_catalog(tmp_path, {"benchmark": benchmark, "scores": scores})
    asked = ("leaderboard", "per_class", "seen_and_unseen", "confused_classes", "per_class_gain")
    with open_catalog(tmp_path) as con:
        found = {name: run_query(con, named_query(con, name)).to_pylist() for name in asked}
    for name in asked[:4]:
        assert {(row["system"], row["arm"]) for row in found[name]} == set(gains), name
    gained = found["per_class_gain"]
    assert {row["system"] for row in gained} == {"ovseg"}  # nothing else was trained
    assert {row["iou_gain"] for row in gained if row["iou_gain"] is not None} == {0.1}


def test_scores_of_a_catalogue_without_systems_get_theirs(toy, tmp_path):
    benchmark, scores = toy.publish_benchmark(tmp_path, "original", 0.0, "zsseg")
    build_catalog(tmp_path, {"benchmark": benchmark, "scores": scores})
    written = json.loads((tmp_path / "catalog.json").read_text())
    for pointer in written["current"]:
        pointer["labels"].pop("system", None)
    (tmp_path / "catalog.json").write_text(json.dumps(written))
    for published in ({}, {"scores": scores}):
        build_catalog(tmp_path, published)
        with open_catalog(tmp_path) as con:
            assert rows(con, "select system, arm from leaderboard") == [("zsseg", "original")]


def test_a_learning_curve_leaves_with_its_checkpoint(toy, tmp_path):
    def trained(loss):
        log = [{"step": 0, "loss": loss}]
        stage = toy.Rows("checkpoints", [{"training_log.parquet": (log, "training_log")}])
        return run_stage(stage, Config(), {}, tmp_path)

    def arms():
        with open_catalog(tmp_path) as con:
            return {row[0] for row in rows(con, "select distinct arm from learning_curves")}

    old, new = trained(2.0), trained(1.0)
    for arm in ("finetuned", "both"):
        published = {f"checkpoint/{arm}": old, "curve": toy.publish_curve(tmp_path, old, arm)}
        build_catalog(tmp_path, published)
    assert arms() == {"finetuned", "both"}
    build_catalog(tmp_path, {"checkpoint/both": new})
    assert arms() == {"finetuned"}
    build_catalog(tmp_path, {"curve": toy.publish_curve(tmp_path, new, "both")})
    assert arms() == {"finetuned", "both"}


def test_two_arms_that_share_a_run_do_not_double_its_rows(toy, tmp_path):
    benchmark, first = toy.publish_benchmark(tmp_path, "original", 0.0)
    again, second = toy.publish_benchmark(tmp_path, "same", 0.0)
    assert again.digest == benchmark.digest
    build_catalog(tmp_path, {"benchmark": benchmark, "a": first, "b": second})
    with open_catalog(tmp_path) as con:
        assert value(con, "select count(*) from class_scores") == 3
        assert value(con, "select count(*) from benchmark_runs") == 2
        assert value(con, "select count(*) from confusion") == 6


def test_curated_sets_are_told_apart_by_query_and_table(finished):
    with open_catalog(finished.root) as con:
        assert rows(con, "select distinct query from curated") == [("paper",)]
        found = rows(con, "select query, dataset, round from published where stage = 'curated'")
    assert found == [("paper", "toy", "0")]


def test_judgements_and_training_sets_leave_with_their_table(toy, tmp_path):
    def mine(rows):
        """A table, the query `paper` and judgements of it, as one flow publishes them."""
        table = toy.publish_table(tmp_path, rows)
        curated = run_stage(CURATE, load_curation("paper"), {"table": table}, tmp_path)
        kept = {row["pair_id"] for row in rows if row["kept"]}
        judged = [row for row in toy.truth_rows() if row["pair_id"] in kept]
        truth = toy.Rows("pair-truth", [judged], schema.PAIR_TRUTH)
        return {
            "table": table,
            "curated": curated,
            "truth": run_stage(truth, Config(), {"table": table}, tmp_path),
        }

    def shown():
        with open_catalog(tmp_path) as con:
            assert failed_checks(con) == {}
            return {row[0] for row in rows(con, "select stage from published")}

    whole = {"tables/pairs", "curated", "pair-truth"}
    first, again = mine(toy.pair_rows()), mine(toy.pair_rows()[:6])
    for name, manifest in first.items():
        build_catalog(tmp_path, {name: manifest})
    assert shown() == whole
    build_catalog(tmp_path, {"table": again["table"]})  # mined again, nothing selected of it yet
    assert shown() == {"tables/pairs"}
    build_catalog(tmp_path, again)
    assert shown() == whole
    build_catalog(tmp_path, {"other": toy.publish_table(tmp_path, dataset="two")})
    assert shown() == whole


def test_what_was_deleted_leaves_the_catalogue(toy, tmp_path, caplog):
    table = toy.publish_table(tmp_path)
    build_catalog(tmp_path, {"table": table})
    shutil.rmtree(table.folder)
    build_catalog(tmp_path, {})
    assert "left out of the catalog" in caplog.text
    with open_catalog(tmp_path) as con:
        assert value(con, "select count(*) from pairs") == 0
    assert json.loads((tmp_path / "catalog.json").read_text()) == {"current": []}


def test_scores_without_any_metric_are_catalogued_and_shown(toy, tmp_path, capsys):
    """On label maps in which nothing counts no metric is defined, and the table is empty."""
    benchmark, _ = toy.publish_benchmark(tmp_path, "original", 0.0, "zsseg")
    stats = {"benchmark": "void", "benchmark_digest": benchmark.digest, "arm": "original"}
    rows_of = {"class_scores.parquet": ([], "class_scores"), "scores.parquet": ([], "scores")}
    stage = toy.Rows("scores", [rows_of], stats={**stats, "images": 1, "scores": {}})
    scores = run_stage(stage, ScoresConfig(arm="original"), {}, tmp_path)
    build_catalog(tmp_path, {"benchmark": benchmark, "scores": scores})
    with open_catalog(tmp_path) as con:
        assert rows(con, "select system, arm, miou_union from leaderboard") == [
            ("zsseg", "original", None)
        ]
        for name in ("leaderboard", "per_class", "seen_and_unseen", "beside_published"):
            run_query(con, named_query(con, name))
    sql_command("leaderboard", root=tmp_path)
    assert "1 rows" in capsys.readouterr().out
    shutil.rmtree(benchmark.folder)  # cleaned up: the scores stay, of the default system
    (tmp_path / "catalog.json").unlink()
    build_catalog(tmp_path, {"scores": scores})
    with open_catalog(tmp_path) as con:
        assert rows(con, "select system from leaderboard") == [("ovseg",)]
