"""Curations that any number of threads may run select the same; the others are run by one."""

import pytest

from bench.made_up.draws import Scale
from bench.made_up.tables import pair_shards
from ovseg.config.mining import TableConfig, load_curation
from ovseg.errors import OvsegError
from ovseg.files.sql_files import sql_files
from ovseg.mining.pairs import curation
from ovseg.mining.pairs.curation import CURATE, threads
from ovseg.mining.pairs.table import PAIR_TABLE
from ovseg.stages.run import run_stage

ANY = [file for file in sql_files("curation") if file.listed("Threads")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Made-up pair tables by source."""
    root = tmp_path_factory.mktemp("made-up")
    made = {}
    for source in ("mined", "gt_label", "gt_noun"):
        shards = pair_shards(root, Scale(pairs=30_000, masks=False, source=source))
        config = TableConfig(dataset="coco", source=source)
        made[source] = run_stage(PAIR_TABLE, config, {"pairs": shards}, root)
    return made


@pytest.mark.parametrize("file", ANY, ids=lambda file: file.name)
def test_what_any_threads_may_run_selects_the_same_with_one_and_four(
    file, tables, monkeypatch, tmp_path
):
    digests = set()
    for cores in (1, 4):
        monkeypatch.setattr(curation, "cores", lambda cores=cores: cores)
        root = tmp_path / str(cores)
        digests.add(run_stage(CURATE, load_curation(file.name), tables, root).content_digest)
    assert len(digests) == 1


def test_one_thread_runs_what_does_not_say_otherwise():
    assert threads("select 1") == 1
    assert threads("-- Pairs.\n-- Threads: any.\nselect 1") >= 1
    with pytest.raises(OvsegError, match=r"says `Threads: 4`: write `Threads: any\.` if"):
        threads("-- Threads: 4.\nselect 1")


def test_what_adds_up_floats_is_run_by_one_thread():
    summing = ("avg(", "sum(", "quantile_cont(")
    for file in sql_files("curation"):
        assert not (file.listed("Threads") and any(each in file.text for each in summing))
