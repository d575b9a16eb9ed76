"""Tables of names: where they point, what may be put into them."""

import importlib

import pytest

from ovseg.config import registry
from ovseg.config.registry import Registry, check_name, chosen
from ovseg.errors import OvsegError

TABLES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
ENTRIES = [
    (table, name, place)
    for table, entries in TABLES.items()
    for name, place in entries._places.items()
]


def test_there_is_a_table_for_every_name_that_settings_may_have():
    assert set(TABLES) == {
        *("FORMATS", "READERS", "PROPOSERS", "SOURCES", "SEGMENTS"),
        *("PROMPTINGS", "TEMPLATES", "EMBEDDERS", "METHODS", "RECIPES"),
    }


@pytest.mark.parametrize(("table", "name", "place"), ENTRIES)
def test_every_entry_is_where_the_table_says(table, name, place):
    module, _, attribute = place.partition(":")
    assert chosen(TABLES[table], name, setting="x") is getattr(
        importlib.import_module(module), attribute
    )
    made = TABLES[table][name]
    assert made is not None


def test_a_place_is_imported_when_it_is_asked_for_and_no_sooner():
    table = Registry({"here": "json:dumps", "gone": "json:no_such", "broken": "no place"})
    assert [*table] == ["here", "gone", "broken"] and "gone" in table and len(table) == 3
    check_name(table, "gone", setting="a.b")
    assert table["here"]([1]) == "[1]"
    for name in ("gone", "broken"):
        with pytest.raises(OvsegError, match=rf"{name!r} is registered as .*cannot be imported"):
            chosen(table, name, setting="a.b")
    with pytest.raises(
        OvsegError, match=r"a\.b: unknown name 'x'; choose one of here, gone, broken"
    ):
        chosen(table, "x", setting="a.b")


def test_an_entry_may_be_the_thing_itself_or_its_place():
    table: Registry = Registry({})
    table["text"], table["itself"] = "textwrap:dedent", sorted
    assert table["text"]("  a") == "a" and table["itself"] is sorted
    del table["text"]
    assert dict(table) == {"itself": sorted}
