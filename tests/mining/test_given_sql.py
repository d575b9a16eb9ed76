"""SQL that a person gives: what it may call and read, and that nothing is written."""

import contextlib
import os

import duckdb
import pytest

from ovseg.catalog.catalog import DATABASE, build_catalog, open_catalog
from ovseg.catalog.query import run_query
from ovseg.errors import OvsegError
from ovseg.mining.pairs import given_sql
from ovseg.mining.pairs.given_sql import ANSWERS, FILES, SYNTAX, TABLES, locked


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("empty")
    build_catalog(root, {})
    return root


@pytest.fixture
def con(root, tmp_path, monkeypatch):
    """A catalogue, while the home and the working folder are empty ones that stay so."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    before = (root / DATABASE).read_bytes(), sorted(path.name for path in root.iterdir())
    with open_catalog(root) as con:
        yield con
    assert ((root / DATABASE).read_bytes(), sorted(p.name for p in root.iterdir())) == before
    assert not list(home.iterdir())


LOGS = (
    "with a as materialized (select count(*) as n from enable_logging(level = 'trace',"
    " storage = 'file', storage_path = '{}/log', storage_normalize = false,"
    " storage_buffer_size = 1)) select count(write_log('PAYLOAD ' || i, level := 'error',"
    " scope := 'database')) from range(3000) r(i), a"
)


@pytest.mark.parametrize(
    "sql",
    [
        LOGS,
        "from enable_logging(level = 'trace', storage = 'file', storage_path = '{}/log')",
        "explain analyze " + LOGS,
        "select write_log('x')",
        "select 'x'.write_log()",
        'select "WRITE_LOG"(1::varchar)',
        "select system.main.write_log('x')",
        "select list_transform(['x'], lambda x: write_log(x))",
        "select case when false then write_log('x') end",
        "select 1 order by write_log('x')",
        "select sum(1) over (order by write_log('x'))",
        "with recursive t(a) as (select 1 union all select a + 1 from t where write_log('x') = '1')"
        " from t",
        "select (select exists (select write_log('x')))",
        "summarize select write_log('x')",
        "describe select write_log('x')",
        "pivot (select write_log('x') as a) on a in ('b') using count(*)",
        "from checkpoint()",
        "from force_checkpoint()",
        "from truncate_duckdb_logs()",
        "from disable_logging()",
        "from enable_profiling()",
        "from register_external_resource_type('a', kind = 'b', create_function = 'c')",
        "from destroy_external_resource('a')",
        "from read_text('/etc/hostname')",
        "from read_blob('/etc/hostname')",
        "from read_csv('/etc/passwd')",
        "from glob('/*')",
        "from read_duckdb('{}/x.duckdb')",
        "from duckdb_secrets()",
        "from duckdb_extensions()",
        "from which_secret('s3://a', 's3')",
        "from arrow_scan(1, 2, 3)",
        "from pandas_scan(1)",
        "from query('select 1')",
        "from query_table('pairs')",
        "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
        "select pg_sleep(1)",
        "select nextval('a')",
        "select getenv('HOME')",
        "select finalize(to_aggregate_state('x'))",
    ],
)
def test_what_does_more_than_compute_is_refused_before_it_runs(con, tmp_path, sql):
    with pytest.raises(OvsegError, match=r"Permission Error: .* a query may") as caught:
        run_query(con, sql.format(tmp_path))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "home"]
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("with a as (copy (select 1) to 'x.csv') from a", "COPY"),
        ("with a as (insert into pairs values (1)) from a", "INSERT"),
        ("with a as (delete from pairs) from a", "DELETE"),
        ("with a as (update pairs set noun = 'x' returning 1) from a", "UPDATE"),
        ("--explain\nexplain analyze copy (select '\nselect 1 --') to 'x.csv'", "more than select"),
        ("explain analyze with a as (copy (select 1) to 'x.csv') from a", "COPY"),
        ("pivot vocabularies on benchmark using count(*)", r"`on noun in \('cat', 'dog'\)`"),
        ("set threads = 1", "more than select"),
        ("pragma version", "more than select"),
        ("call pragma_version()", "more than select"),
        ("install httpfs", "more than select"),
        ("load httpfs", "more than select"),
        ("attach ':memory:' as other", "more than select"),
        ("export database 'x'", "more than select"),
        ("create macro f(x) as x", "more than select"),
        ("merge into pairs using nouns on true when matched then delete", "more than select"),
        ("select 1\0", "not valid text"),
        ("select '\ud800'", "not valid text"),
        ("from " + "(from " * 3000 + "range(1)" + ")" * 3000, "nested too deeply"),
        ("select " + "1," * 40_000 + "1", "80,008 characters, more than 65,536"),
        ("select " + "(" * 3000 + "1" + ")" * 3000, "Max expression depth"),
    ],
)
def test_what_is_not_one_select_is_refused(con, tmp_path, sql, what):
    with pytest.raises(OvsegError, match=what) as caught:
        run_query(con, sql)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    "sql",
    [
        "pivot vocabularies on benchmark in ('voc-20', 'voc-21') using count(*)",
        "from (pivot vocabularies on benchmark in ('voc-20') using count(*))",
        "unpivot (select 1 as a, 2 as b) on a, b",
        "select rank() over w, lag(a) over w from range(3) t(a) window w as (order by a)",
        "select sum(a order by a desc) filter (a > 1) from range(3) t(a) group by rollup(a)",
        "with recursive t(a) as (select 1 union all select a + 1 from t where a < 5) from t",
        "select unnest([1, 2]), [x * 2 for x in [1, 2]], list_transform([1], lambda x: x + 1)",
        "select now(), current_date, random() < 2, uuid() is null, current_user, version()",
        "select date '2020-01-31' + interval 1 month, '2020-01-01'::timestamptz at time zone 'UTC'",
        "select 'a' similar to 'b', 5!, 1 between 0 and 2, try_cast('a' as int), try(1 / 0)",
        "select {'a': 1}.a, map {'a': 1}['a'], [1, 2, 3][1:2], row(1, 2)",
        "select json('{\"a\": 1}') ->> '$.a'",
        "select distinct on (benchmark) columns('b.*') from vocabularies order by all limit 10%",
        "from (from range(2)) positional join (from range(3))",
        "from vocabularies using sample 3 rows",
        "select exists (from pairs), (select 1), 1 = any (select 1), (1, 2) in ((1, 2))",
        "select count(*), count(distinct 1), list(1), approx_quantile(1, 0.5), arg_max(1, 2)",
        "from histogram(vocabularies, class_id)",
        "select 'é' collate noaccent = 'e', nfc_normalize('é'), lower('É')",
        "from information_schema.tables",
        "show all tables",
        "(select 1 as a union all by name select 2 as a) except select 3",
        "select invoke(lambda x: x + 1, 2), coalesce(null, 1), nullif(1, 2), if(true, 1, 2)",
    ],
)
def test_what_computes_runs(con, sql):
    assert run_query(con, sql).num_rows > 0


def test_data_files_are_read_by_name(con, tmp_path, monkeypatch):
    (tmp_path / "here" / "a.csv").write_text("noun,label\ndog,animal\n")
    (tmp_path / "home" / "b.tsv").write_text("noun\tlabel\ncat\tpet\n")
    for sql in (
        "from 'a.csv'",
        "from a.csv",
        "from './a.csv'",
        f"from '{tmp_path}/here/a.csv'",
        "from '*.csv'",
        "from read_csv('a.csv', header = true)",
        "from read_csv(['a.csv'])",
        "with a as (from 'a.csv') from a",
        "select * from range(1), lateral (select * from 'a.csv')",
    ):
        (row,) = run_query(con, sql).to_pylist()
        assert (row["noun"], row["label"]) == ("dog", "animal"), sql
    assert run_query(con, "from '~/b.tsv'")["label"].to_pylist() == ["pet"]
    (tmp_path / "home" / "b.tsv").unlink()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("from 'missing.csv'", "missing.csv does not exist"),
        ("from 'no*.csv'", r"no\*.csv does not exist"),
        ("from 'folder.csv'", "regular files only"),
        ("from 'pipe.csv'", "regular files only"),
        ("from '/dev/zero.csv/../zero'", "does not exist|not a data file|disabled"),
        ("from 'https://example.org/x.csv'", "local files only"),
        ("from 's3://bucket/x.parquet'", "local files only"),
        ("from read_parquet('hf://datasets/x/y.parquet')", "local files only"),
        ("from 'a.xlsx'", "does not exist"),
        ("from read_csv('a' || '.csv')", "name the files as text"),
        ("from read_csv(getvariable('x'))", "name the files as text"),
        ("from read_csv((select 'a.csv'))", "name the files as text"),
        ("from read_csv()", "name the files as text"),
        ("from read_csv(['a.csv', 1])", "name the files as text"),
        ("from read_csv('id_rsa')", "not a data file"),
        ("from 'other.duckdb'", "other.duckdb"),
        ("from con", "does not exist"),  # a variable of this program
    ],
)
def test_what_is_no_data_file_of_a_person_is_refused(con, tmp_path, sql, message):
    here = tmp_path / "here"
    (here / "a.csv").write_text("a\n1\n")
    (here / "folder.csv").mkdir()
    os.mkfifo(here / "pipe.csv")
    duckdb.connect(str(here / "other.duckdb")).close()
    with pytest.raises(OvsegError, match=message) as caught:
        run_query(con, sql)
    assert "\n" not in str(caught.value)


def test_a_file_beside_the_named_one_stays_shut(root, tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").write_text("a\n2\n")
    sql = f"from '{tmp_path}/a.csv'"
    with locked(sql, own_files=True) as con:
        assert con.sql(sql).fetchall() == [(1,)]
        for forbidden in (
            f"from '{tmp_path}/b.csv'",
            f"copy (select 1) to '{tmp_path}/c.csv'",
            f"attach '{tmp_path}/d.duckdb'",
            "set enable_external_access = true",
            "set threads = 1",
            "from enable_logging()",
            "load httpfs",
            f"from enable_profiling(save_location = '{tmp_path}/e')",
        ):
            with pytest.raises(duckdb.Error):
                con.sql(forbidden)
                con.execute(forbidden).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_what_does_not_fit_into_memory_spills_to_a_temporary_folder(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sql = (
        "select count(*) from (select hash(i) as h from range(3_000_000) t(i) order by h offset 1)"
    )
    with locked(sql, prepare=["set memory_limit = '20MB'"], threads=1) as con:
        assert con.sql(sql).fetchall() == [(2_999_999,)]
        assert list(tmp_path.glob("ovseg-sql-*/*"))
    assert not list(tmp_path.iterdir())


def test_every_function_of_the_engine_is_decided():
    """A later DuckDB's functions are refused until somebody has looked at them: here they show."""
    with duckdb.connect() as con:
        rows = con.execute(
            "select distinct lower(function_name), function_type, stability"
            " from duckdb_functions() where database_name = 'system'"
        ).fetchall()
    tables = {name for name, kind, _ in rows if kind in ("table", "table_macro")}
    assert not TABLES & FILES
    assert not {name for name in TABLES | FILES if "log" in name or "secret" in name}
    volatile = {
        name for name, kind, stability in rows if kind == "scalar" and stability == "VOLATILE"
    }
    computing = given_sql._computing()
    assert volatile & computing <= ANSWERS
    assert not {"write_log", "sleep_ms", "pg_sleep", "to_aggregate_state"} & computing
    assert not {name for name in computing if name.startswith("__internal")}
    known = {name for name, _, _ in rows} | SYNTAX | ANSWERS
    assert computing <= known
    effects = {"checkpoint", "enable_logging", "truncate_duckdb_logs", "glob", "read_text"}
    assert not effects & (TABLES | FILES)
    assert effects <= tables or duckdb.__version__ < "2"


@pytest.mark.slow
def test_no_table_function_writes_a_file(con, tmp_path):
    """Each that the engine lists, called with a path."""
    with duckdb.connect() as every:
        names = every.execute(
            "select distinct function_name from duckdb_functions() where function_type in"
            " ('table', 'table_macro', 'pragma') order by all"
        ).fetchall()
    for (name,) in names:
        with contextlib.suppress(OvsegError):
            run_query(con, f"from {name}('{tmp_path}/here/x.csv')", limit=3, shown=True)
    assert not list((tmp_path / "here").iterdir())
