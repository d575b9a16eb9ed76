"""The nouns stage: rows, offsets, reasons, and what its digest covers."""

import json
from pathlib import Path

from ovseg.data.listing import LIST_IMAGES
from ovseg.mining.gates import REASONS
from ovseg.mining.nouns import stage as noun_stage
from ovseg.mining.nouns.mentions import extract
from ovseg.mining.nouns.stage import NOUNS
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.schema import NOUNS as SCHEMA


def test_a_row_a_mention(source, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    nouns = run_stage(NOUNS, source.nouns, {"images": images}, tmp_path)
    assert nouns.plan == images.plan
    table = nouns.table()
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    texts = {c["caption_id"]: c["text"] for i in images.table().to_pylist() for c in i["captions"]}
    assert {(row["drop_reason"] or "no_noun").partition(":")[0] for row in rows} <= set(REASONS)
    for row in rows:
        if row["noun"] is not None:
            text = texts[row["caption_id"]]
            assert text[row["char_start"] : row["char_end"]] == row["surface"]
            assert row["kept"] == (row["drop_reason"] is None)
    first = [(r["caption_id"], r["noun"], r["surface"]) for r in rows if r["image_id"] == 100]
    assert first == [
        (0, "boat", "boat"),
        (0, "sea", "sea"),
        (1, "boat", "boats"),
        (1, "moon", "moon"),
    ]
    fence = {r["noun"]: r for r in rows if r["caption_id"] == 4}
    assert fence["picket fence"]["head"] == "fence" and fence["picket fence"]["kept"]
    assert fence["fence"]["kept"] and fence["fence"]["head"] is None
    assert not fence["front"]["kept"]
    (silent,) = [r for r in rows if r["caption_id"] == 6]
    assert (silent["noun"], silent["kept"], silent["drop_reason"]) == (None, False, "no_noun")
    assert {row["dataset"] for row in rows} == {"blocks"}
    assert nouns.stats["captions"] == 18
    assert nouns.stats["mentions"] + nouns.stats["dropped"]["no_noun"] == len(rows)
    assert nouns.stats["kept"] + sum(nouns.stats["dropped"].values()) == len(rows)


def test_repeated_captions_are_parsed_once(source, tmp_path: Path):
    images = run_stage(
        LIST_IMAGES, source.images.model_copy(update={"shard_size": 99}), {}, tmp_path
    )
    nouns = run_stage(NOUNS, source.nouns, {"images": images}, tmp_path)
    assert (nouns.stats["captions"], nouns.stats["distinct_captions"]) == (18, 5)


def test_a_caption_that_comes_back_in_another_shard_is_not_parsed_again(
    source, tmp_path: Path, monkeypatch
):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    assert len(images.shards) > 1
    parsed: list[str] = []

    def watched(texts, *args, **kwargs):
        parsed.extend(texts)
        return extract(texts, *args, **kwargs)

    monkeypatch.setattr(noun_stage, "extract", watched)
    noun_stage._memory.cache_clear()
    first = run_stage(NOUNS, source.nouns, {"images": images}, tmp_path / "first")
    assert len(parsed) == len(set(parsed)) == 5
    again = run_stage(NOUNS, source.nouns, {"images": images}, tmp_path / "again")
    assert len(parsed) == 5
    assert again.content_digest == first.content_digest
    assert again.stats == first.stats


def test_captions_of_unreadable_images_are_parsed(source, tmp_path: Path):
    (source.image_root / "000.png").unlink()
    config = source.images.model_copy(update={"max_bad_fraction": 1.0})
    images = run_stage(LIST_IMAGES, config, {}, tmp_path)
    nouns = run_stage(NOUNS, source.nouns, {"images": images}, tmp_path)
    assert 100 in nouns.table(["image_id"])["image_id"].to_pylist()


def test_the_digest_covers_parser_and_stop_list(source, tmp_path: Path, tiny):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)

    def folder(**changes: object) -> Path:
        changed = source.nouns.model_copy(update=changes)
        return stage_folder(NOUNS, changed, {"images": images}, tmp_path)[0]

    folders = [folder(), folder(stop_nouns=False), folder(compounds=False)]
    assert len(set(folders)) == 3
    assert folder(batch_size=1) == folder()
    lookups = Path(tiny.parser) / "attribute_ruler" / "patterns"
    content = lookups.read_bytes()
    try:
        lookups.write_bytes(content + b"\0")
        assert folder() != folders[0]
    finally:
        lookups.write_bytes(content)
    assert folder() == folders[0]


def test_captions_from_the_web_keep_their_places_and_languages_are_counted(source, tmp_path: Path):
    """Entities are decoded before anything is stored, so that mentions lie in what is stored."""
    captions = tmp_path / "captions.jsonl"
    texts = [
        "A house &amp; a boat.jpg of www.boat.com on the sea",
        "&quot;Two boats&quot; and a moon",
        "Ein Hund und ein Boot auf dem Meer",
    ]
    lines = [json.dumps({"file_name": "000.png", "caption": text}) for text in texts]
    captions.write_text("\n".join(lines))
    config = source.images.model_copy(update={"captions": captions})
    images = run_stage(LIST_IMAGES, config, {}, tmp_path)
    stored = {c["caption_id"]: c["text"] for i in images.table().to_pylist() for c in i["captions"]}
    english = {number for number, text in stored.items() if "Hund" not in text}
    assert "A house & a boat.jpg of www.boat.com on the sea" in stored.values()
    nouns = run_stage(NOUNS, source.nouns, {"images": images}, tmp_path)
    rows = [row for row in nouns.table().to_pylist() if row["noun"] is not None]
    for row in rows:
        text = stored[row["caption_id"]]
        assert text[row["char_start"] : row["char_end"]] == row["surface"]
    assert {r["noun"] for r in rows if r["caption_id"] in english} >= {
        "house",
        "sea",
        "boat",
        "moon",
    }
    assert {"amp", "quot", "boat.jpg"}.isdisjoint({row["noun"] for row in rows if row["kept"]})
    assert nouns.stats["captions_not_english"] == 1
