"""Any text for `ovseg sql -c`: rows or a refusal, and not a byte of the catalogue changes."""

import atexit
import shutil
import tempfile
from pathlib import Path

import duckdb
from harness import fuzzed
from hypothesis import strategies as st

from ovseg.catalog.catalog import DATABASE, build_catalog, open_catalog
from ovseg.catalog.query import run_query
from ovseg.catalog.relations import RELATIONS
from ovseg.errors import OvsegError
from ovseg.files.sql_files import sql_files
from ovseg.mining.pairs import given_sql

given_sql._computing()  # once, and not within a case's bounds


def _names(select: str) -> list[str]:
    with duckdb.connect() as con:
        return [str(row[0]) for row in con.execute(select).fetchall()]


FUNCTIONS = _names("select distinct function_name from duckdb_functions() order by all")
TABLES = _names(
    "select distinct function_name from duckdb_functions() where function_type like 'table%'"
    " or function_type = 'pragma' order by all"
)
SETTINGS = _names("select distinct name from duckdb_settings() order by all")
RISKY = [
    *("enable_logging", "write_log", "checkpoint", "force_checkpoint", "truncate_duckdb_logs"),
    *("disable_logging", "register_external_resource_type", "destroy_external_resource"),
    *("read_text", "read_blob", "read_csv", "glob", "query", "query_table", "read_duckdb"),
    *("duckdb_secrets", "enable_profiling", "getenv", "json_execute_serialized_sql"),
]
FILES = [
    *("own.csv", "./own.csv", "*.csv", "missing.csv", "new.csv", "../out.csv", "/etc/passwd"),
    *("~/x.csv", "catalog.duckdb", "catalog.json", "https://example.org/x.csv", "s3://b/k.parquet"),
    *("hf://a/b.parquet", "a.xlsx", "pipe.csv", "folder.csv", "own.csv.gz", "x\0.csv", "é.json"),
]
WHOLE = [file.text for kind in ("queries", "tests", "curation") for file in sql_files(kind)]

numbers = st.sampled_from(["0", "1", "-1", "1e400", "0.5", "9223372036854775808", "null", "true"])
texts = st.sampled_from(FILES) | st.text(max_size=8)
literals = numbers | texts.map(lambda text: "'" + text.replace("'", "''") + "'")
functions = st.sampled_from(FUNCTIONS) | st.sampled_from(RISKY)
names = st.sampled_from(["noun", "a", "benchmark", "i", '"x y"', "*", "columns('.*')"])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _call(parts: tuple[str, list[str], bool]) -> str:
    name, arguments, bare = parts
    return f"{name if bare and name.isidentifier() else _quoted(name)}({', '.join(arguments)})"


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, max_size=3)
    return st.one_of(
        st.tuples(functions, several, st.booleans()).map(_call),
        st.tuples(inner, st.sampled_from(["+", "||", "=", "and", "in", "->>", "like", "::"]), inner)
        .map(" ".join)
        .map("({})".format),
        several.map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(inner, functions).map(lambda pair: f"{pair[0]}.{_quoted(pair[1])}()"),
        inner.map("(select {})".format),
        inner.map("case when {} then 1 end".format),
        inner.map("list_transform([1], lambda x: {})".format),
        inner.map("sum(1) over (order by {})".format),
        inner.map("{{'a': {}}}".format),
        st.tuples(inner, st.sampled_from(["int", "varchar", "date", "blob", "json"])).map(
            "::".join
        ),
    )


expressions = st.recursive(literals | names, _deeper, max_leaves=6)
table_calls = st.tuples(
    st.sampled_from(TABLES) | st.sampled_from(RISKY), st.lists(expressions, max_size=3)
).map(lambda pair: f"{_quoted(pair[0])}({', '.join(pair[1])})")
sources = st.one_of(
    st.sampled_from([*RELATIONS, "kept_pairs", "leaderboard", "nothing"]),
    texts.map(lambda text: "'" + text.replace("'", "''") + "'"),
    table_calls,
    st.sampled_from(["range(3) t(i)", "(values (1, 'a')) t(a, noun)", "information_schema.tables"]),
)
selects = st.one_of(
    sources.map("from {}".format),
    expressions.map("select {}".format),
    st.tuples(expressions, sources).map(lambda p: f"select {p[0]} from {p[1]}"),
    st.tuples(sources, expressions).map(lambda p: f"from {p[0]} where {p[1]}"),
    st.tuples(sources, expressions).map(lambda p: f"from {p[0]} order by {p[1]} limit 3"),
    st.tuples(sources, sources).map(lambda p: f"from {p[0]} cross join {p[1]} limit 3"),
    st.tuples(expressions, sources).map(lambda p: f"with a as (select {p[0]}) from a, {p[1]}"),
    sources.map("describe {}".format),
    sources.map("summarize {}".format),
    st.sampled_from(WHOLE),
)
statements = st.one_of(
    st.tuples(selects, texts).map(lambda p: f"copy ({p[0]}) to '{p[1]}'"),
    texts.map("attach '{}' as other".format),
    texts.map("export database '{}'".format),
    st.tuples(st.sampled_from(SETTINGS), literals).map(lambda p: f"set {p[0]} = {p[1]}"),
    st.sampled_from(TABLES).map("pragma {}".format),
    st.sampled_from(["install httpfs", "load httpfs", "checkpoint", "vacuum", "begin", "use x"]),
    selects.map("create table t as {}".format),
    selects.map("insert into pairs {}".format),
    st.tuples(functions, expressions).map(lambda p: f"create macro {_quoted(p[0])}(a) as {p[1]}"),
)
wrapped = st.one_of(
    selects,
    selects,
    selects.map("explain analyze {}".format),
    statements,
    statements.map("explain analyze {}".format),
    st.tuples(statements, selects).map(lambda p: f"with a as ({p[0]}) {p[1]}"),
    st.tuples(selects, statements).map("; ".join),
    st.tuples(selects, statements).map(lambda p: f"--explain\n{p[1]}\n{p[0]}"),
    st.tuples(selects, st.text(max_size=6)).map("".join),
    st.tuples(selects, st.integers(0, 200), st.text(max_size=3)).map(
        lambda p: p[0][: p[1]] + p[2] + p[0][p[1] + 1 :]
    ),
)


def _world() -> Path:
    root = Path(tempfile.mkdtemp(prefix="ovseg-fuzz-sql-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    build_catalog(root, {})
    return root


WORLD = _world()


@fuzzed(
    wrapped,
    seconds=30.0,
    mebibytes=4096,
    seeds=[
        "select write_log('x') from enable_logging(storage = 'file', storage_path = 'new.csv')",
        "with a as (copy (select 1) to 'new.csv') from a",
        "from test_all_types()",
        "from 'own.csv'",
    ],
)
def test_any_sql_answers_or_is_refused(sql, folder):
    for name in (DATABASE, "catalog.json"):
        shutil.copy(WORLD / name, folder / name)
    (folder / "own.csv").write_text("noun,a\ndog,1\n")
    (folder / "folder.csv").mkdir()
    before = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    try:
        with open_catalog(folder) as con:
            table = run_query(con, sql, limit=3, shown=True)
        assert table.num_rows <= 3
    except OvsegError as error:
        assert "\n" not in str(error)
    after = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    assert after == before
