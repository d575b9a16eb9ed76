"""Selects that were rewritten to be fast return the rows that they returned before."""

from contextlib import ExitStack

import pytest

from bench.made_up.draws import Scale
from bench.made_up.tables import publish
from bench.tables.sql import BEFORE, PARAMETERS, everything, place, text_before
from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.query import failed_checks

FILES = everything()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("made-up")
    publish(root, Scale(pairs=12_000, seed=5))
    return root


@pytest.fixture(scope="module")
def answer(root):
    """Runs a select on the made-up tables, over views of now or of before."""
    connections = {}
    with ExitStack() as stack:

        def run(file, *, before):
            kind = file.path.parent.name
            key = (kind == "curation", before)
            if key not in connections:
                one = place(root, file, before=before, workers=1)  # sums of floats
                connections[key] = stack.enter_context(one)
            text = text_before(file) if before else file.text
            sql = f"from {file.name}" if kind == "views" else text
            return connections[key].sql(sql, params=PARAMETERS.get(file.name)).to_arrow_table()

        yield run


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.path.parent.name}-{file.name}")
def test_rows_are_those_from_before(answer, file):
    old, new = (answer(file, before=before) for before in (True, False))
    assert old.schema == new.schema
    assert sorted(map(repr, old.to_pylist())) == sorted(map(repr, new.to_pylist()))
    if file.path.parent.name == "queries":
        assert old == new  # in the same order


def test_scores_of_images_do_not_depend_on_threads(root):
    (file,) = (file for file in FILES if file.name == "image_scores")
    with place(root, file) as con:
        found = {
            repr(con.sql(file.text, params=PARAMETERS[file.name]).fetchall()) for _ in range(20)
        }
    assert len(found) == 1


def test_every_text_from_before_is_of_a_file_that_ships():
    shipped = {(file.path.parent.name, file.path.name) for file in FILES}
    assert {(path.parent.name, path.name) for path in BEFORE.rglob("*.sql")} <= shipped


def test_made_up_tables_pass_every_check_and_answer_every_query(root, answer):
    with open_catalog(root) as con:
        assert failed_checks(con) == {}
    for file in FILES:
        if file.path.parent.name == "queries" and file.name != "learning_curves":
            assert answer(file, before=False).num_rows, file.name
