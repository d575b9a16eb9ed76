"""Pairs of every source through the flows: side by side in one catalogue, trained on together."""

import pytest

from flows.finetune import finetune
from flows.mine import mine
from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.query import failed_checks, run_query
from ovseg.config.request import resolve
from ovseg.files.sql_files import sql_file
from ovseg.storybook.categories import split


@pytest.fixture(scope="module")
def trained(prefect_server, small, tmp_path_factory):
    """One arm trained on labels and captions, and pairs of caption nouns with true masks."""
    root = tmp_path_factory.mktemp("sources")
    few = {"data.mining_world.scenes": 16, "data.min_shards": 2, "arms.snapshots": 0}
    overrides = {**small, **few, "curation": "labels_and_captions"}
    phases = resolve("storybook", overrides=overrides).arms["finetuned"]
    overrides |= {"arms": {"finetuned": [phase.model_dump() for phase in phases]}, "benchmarks": ()}
    checkpoints = finetune("storybook", root=root, overrides=overrides)
    nouns = mine("storybook", root=root, overrides={**overrides, "mining.sources": ["gt_noun"]})
    return root, checkpoints, nouns["gt_noun"]


def test_the_catalogue_shows_the_tables_of_all_sources(trained):
    root, _, nouns = trained
    with open_catalog(root) as con:
        assert failed_checks(con) == {}
        found = run_query(
            con,
            "select source, count(*) as n, count(*) filter (kept) as kept from pairs group by 1",
        ).to_pylist()
        counts = {row["source"]: row for row in found}
        assert set(counts) == {"mined", "gt_label", "gt_noun"}
        assert counts["gt_noun"]["n"] == counts["mined"]["n"] == nouns["table"].rows
        labels = run_query(
            con, "select distinct noun, kept, drop_reason from pairs where source = 'gt_label'"
        ).to_pylist()
        published = run_query(
            con, "select source, query from published where stage in ('tables/pairs', 'curated')"
        ).to_pylist()
        (proposed,) = con.sql("select distinct proposal_model from proposals").fetchall()
    seen, unseen = split(0)
    assert {row["noun"] for row in labels if row["kept"]} <= set(seen)
    left_out = {row["noun"] for row in labels if row["drop_reason"] == "class_left_out"}
    assert left_out and left_out <= set(unseen)
    assert {"source": "gt_label+mined", "query": "labels_and_captions"} in published
    assert proposed[0].startswith("storybook@"), "the network's, whatever was mined last"


def test_training_reads_the_pairs_of_both_tables(trained):
    root, checkpoints, _ = trained
    manifest = checkpoints["finetuned"]
    assert set(manifest.parents) == {"curated", "table", "table/gt_label"}
    with open_catalog(root) as con:
        (row,) = run_query(con, sql_file("queries", "training_sets").text).to_pylist()
        of_source = dict(
            con.sql("select source, count(*) from training_pairs group by source").fetchall()
        )
    assert row["query"] == "labels_and_captions"
    assert set(of_source) == {"mined", "gt_label"}
    assert manifest.stats["pairs"] == row["pairs"] == sum(of_source.values())
    assert manifest.stats["bad"] == 0
