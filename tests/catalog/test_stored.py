"""Views whose rows the catalog stores: they are those of the view, and never out of date."""

import shutil

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg.catalog import database, stored
from ovseg.catalog.catalog import build_catalog, open_catalog
from ovseg.catalog.query import named_query
from ovseg.catalog.relations import RELATIONS, base_relations
from ovseg.files.sql_files import SqlFile, sql_files
from ovseg.stages import schema

STORED = [view for view in sql_files("views") if view.stored]


@pytest.fixture
def computed(monkeypatch):
    """The stored views that were computed and not taken over, in order."""
    names, store = [], stored.store

    def noted(con, view, key, earlier):
        if earlier.get(view.name) != key:
            names.append(view.name)
        store(con, view, key, earlier)

    monkeypatch.setattr(database, "store", noted)
    return names


def mentioned(toy, root, rows):
    from ovseg.config.mining import NounsConfig

    config = NounsConfig(parser=str(len(rows)))
    return toy.publish_rows(root, "nouns", [rows], schema.NOUNS, config)


def frequencies(root):
    with open_catalog(root) as con:
        return dict(con.sql("select noun, mentions from noun_frequency").fetchall())


def live(con, view):
    """The rows that a stored view stands for, of views alone."""
    with duckdb.connect() as own:
        for (sql,) in con.execute(
            "select sql from duckdb_views() where schema_name = 'main' and not internal"
            " order by view_oid"
        ).fetchall():
            if sql.split()[2].strip('"') in RELATIONS:
                own.execute(sql)
        for name, kind in RELATIONS.items():
            if kind.constant:
                own.register(name, con.sql(f"from {name}").to_arrow_table())
        for each in sql_files("views"):
            own.execute(f"create view {each.name} as {each.text}")
        return own.sql(f"from {view.name}").to_arrow_table()


@pytest.mark.parametrize("view", STORED, ids=lambda view: view.name)
def test_stored_rows_are_those_of_the_view(finished, view):
    with open_catalog(finished.root) as con:
        rows, expected = con.sql(f"from {view.name}").to_arrow_table(), live(con, view)
    assert rows.schema == expected.schema
    assert rows.num_rows > 0
    assert sorted(map(repr, rows.to_pylist())) == sorted(map(repr, expected.to_pylist()))


def test_rows_are_taken_over_until_what_they_are_of_changes(toy, tmp_path, computed):
    rows = toy.noun_rows()
    build_catalog(tmp_path, {"table": toy.publish_table(tmp_path)})
    assert computed == [view.name for view in STORED]
    computed.clear()
    benchmark, scores = toy.publish_benchmark(tmp_path, "original", 0.0)
    build_catalog(tmp_path, {"benchmark": benchmark, "scores": scores})
    assert computed == []
    build_catalog(tmp_path, {"nouns": mentioned(toy, tmp_path, rows)})
    assert computed == [view.name for view in STORED]  # each of them reads nouns
    assert frequencies(tmp_path)["dog"] == 5
    build_catalog(tmp_path, {"nouns": mentioned(toy, tmp_path, rows[:1])})
    assert sum(frequencies(tmp_path).values()) == 1
    computed.clear()
    build_catalog(tmp_path, {"table": toy.publish_table(tmp_path, toy.pair_rows()[:4])})
    assert "noun_contexts" not in computed  # reads no pairs
    assert "noun_frequency" in computed


def test_a_result_with_other_bytes_under_the_same_name_counts(toy, tmp_path, computed):
    rows, first, second = toy.noun_rows(), tmp_path / "first", tmp_path / "second"
    build_catalog(first, {"nouns": mentioned(toy, first, rows)})
    folder = next((first / "nouns").iterdir())
    doubled = toy.publish_rows(second, "nouns", [[*rows, rows[0]]], schema.NOUNS, None)
    shutil.rmtree(folder)
    shutil.copytree(doubled.folder, folder)
    build_catalog(first, {})
    assert sum(frequencies(first).values()) == 1 + sum("noun" in row for row in rows)


def test_a_moved_root_keeps_its_rows(toy, tmp_path, computed):
    old, new = tmp_path / "old", tmp_path / "new"
    build_catalog(old, {"nouns": mentioned(toy, old, toy.noun_rows())})
    computed.clear()
    old.rename(new)
    with open_catalog(new) as con:
        assert con.sql("select count(*) from nouns").fetchall() == [(len(toy.noun_rows()),)]
    assert computed == []


def test_a_damaged_catalog_is_not_taken_over(toy, tmp_path, computed):
    path = build_catalog(tmp_path, {"nouns": mentioned(toy, tmp_path, toy.noun_rows())})
    expected = frequencies(tmp_path)
    computed.clear()
    path.write_bytes(path.read_bytes()[:5000])
    build_catalog(tmp_path, {})
    assert computed == [view.name for view in STORED]
    assert frequencies(tmp_path) == expected
    files = {each.name for each in tmp_path.glob("catalog*")}
    assert files == {"catalog.duckdb", "catalog.json"}


def test_another_text_of_a_view_or_of_one_it_reads_is_another_key(tmp_path):
    base = base_relations([])
    views = sql_files("views")
    keys = stored.keys(views, base, tmp_path)
    assert set(keys) == {view.name for view in STORED}
    changed = [
        SqlFile(view.name, view.path, view.text + " -- ") if view.name == "mined_pairs" else view
        for view in views
    ]
    others = stored.keys(changed, base, tmp_path)
    reading = {"noun_frequency", "image_coverage", "class_exposure"}
    assert {name for name in keys if keys[name] != others[name]} == reading


def test_a_stored_relation_is_read_by_its_name(finished):
    with open_catalog(finished.root) as con:
        assert named_query(con, "noun_frequency") == 'from "noun_frequency"'


NAMES = st.text("abc_", min_size=1, max_size=5).map(lambda text: f"t{text}")


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_tables_of_a_select_are_found_wherever_they_stand(names):
    first, *rest = names
    sql = f"with own as (select a from {first}) select a from own"
    for name in rest:
        sql += f" union all select (select max(b) from {name}) from own where a in (from {name})"
    with duckdb.connect() as con:
        assert stored.tables(con, sql) == {"own", *names}
