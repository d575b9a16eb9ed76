"""The nouns stage: one row for each mention of a noun in the captions of a shard of images.

    nouns = run_stage(NOUNS, NounsConfig(), {"images": images}, Path("runs/mine"))

The captions of every listed image are read, even if the image could not be decoded: its nouns are
still nouns, and pairing records why they got no region.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from ovseg.config.mining import NounsConfig
from ovseg.files.digests import digest_json, file_sha256
from ovseg.files.parquet_files import write_parquet
from ovseg.mining.nouns.caption_text import is_english
from ovseg.mining.nouns.lemmas import IRREGULAR_PLURALS
from ovseg.mining.nouns.mentions import Mention, extract, load_parser, parser_digest
from ovseg.mining.nouns.parsing_team import ParsingTeam
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.models.devices import model_label
from ovseg.stages.schema import NOUNS as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.stages.stopwatch import waiting
from ovseg.stages.threads import cores

# a pipeline keeps state while it runs, and the GIL lets only one thread run it anyway
_PARSING = threading.Lock()
_REMEMBERED = 200_000  # captions whose nouns a process caches across shards
WORTH_A_TEAM = 8_000
"""Captions of a stage from which on several processes parse them: 5 s of work for one."""
_team: ContextVar[ParsingTeam | None] = ContextVar("team", default=None)


@lru_cache(maxsize=1)
def _memory(parsing: str) -> dict[str, list[Mention]]:
    """Return the cache of nouns by caption for one parsing digest; a new digest starts afresh."""
    return {}


class NounsStage(Stage[NounsConfig]):
    """Parses each distinct caption once, even if it recurs in another shard."""

    name = "nouns"
    schema_version = 2  # 2: adjectives, place

    def weights(self, config: NounsConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digests of the parser, the table of plurals, and the stop list if used."""
        digests = {
            "parser": parser_digest(config.parser),
            "irregular_plurals": file_sha256(IRREGULAR_PLURALS),
        }
        if config.stop_nouns:
            stop = StopNouns.load()
            digests["stop_nouns"] = digest_json(
                [dict(stop.groups), sorted(stop.exceptions), sorted(stop.media)]
            )
        return digests

    @contextmanager
    def session(self, config: NounsConfig, inputs: Inputs) -> Iterator[None]:
        """Keep the processes that parse from one shard to the next."""
        processes = config.workers or cores()
        if processes == 1 or inputs["images"].stats.get("captions", 0) < WORTH_A_TEAM:
            yield
            return
        team = ParsingTeam(config.parser, processes)
        before = _team.set(team)
        try:
            yield
        finally:
            _team.reset(before)
            team.close()

    def write(
        self, config: NounsConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Parse the captions of one shard."""
        images = inputs["images"].shard_table(shard, ["dataset", "image_id", "captions"])
        weights = self.weights(config, inputs)
        label = model_label(config.parser, weights["parser"])
        listed = images.to_pylist()
        texts = list({caption["text"]: None for image in listed for caption in image["captions"]})
        with _turn_to_parse(), waiting("parse"):
            memory = _memory(digest_json([weights, config.result_fields()]))
            new = [text for text in texts if text not in memory]
            parsed = extract(
                new,
                load_parser(config.parser),
                compounds=config.compounds,
                proper_nouns=config.proper_nouns,
                stop_nouns=StopNouns.load() if config.stop_nouns else StopNouns.none(),
                batch_size=config.batch_size,
                team=_team.get(),
            )
            memory.update(zip(new, parsed, strict=True))
            mentions = {text: memory[text] for text in texts}
            while len(memory) > _REMEMBERED:
                del memory[next(iter(memory))]  # the oldest
        rows: list[dict[str, Any]] = []
        for image in listed:
            for caption in image["captions"]:
                of_caption = {
                    "dataset": image["dataset"],
                    "image_id": image["image_id"],
                    "caption_id": caption["caption_id"],
                    "parser": label,
                }
                rows += ({**of_caption, **row} for row in _rows(mentions[caption["text"]]))
            progress(1)
        with waiting("write"):
            write_parquet(rows_to_table(rows, SCHEMA), target)
        captions = sum(len(image["captions"]) for image in listed)
        foreign = sum(
            not is_english(caption["text"]) for image in listed for caption in image["captions"]
        )
        stats = _stats(rows, captions=captions, parsed=len(texts))
        return Output(rows=len(rows), stats={**stats, "captions_not_english": foreign})


NOUNS = NounsStage()


@contextmanager
def _turn_to_parse() -> Iterator[None]:
    with waiting("turn"):
        _PARSING.acquire()
    try:
        yield
    finally:
        _PARSING.release()


def _rows(mentions: list[Mention]) -> Iterator[dict[str, Any]]:
    """Yield the columns of a caption's mentions; a caption without any yields one row saying so."""
    if not mentions:
        yield {"kept": False, "drop_reason": "no_noun"}
    for mention in mentions:
        yield {
            "noun": mention.lemma,
            "surface": mention.surface,
            "char_start": mention.char_start,
            "char_end": mention.char_end,
            "head": mention.head,
            "adjectives": mention.context.adjectives,
            "place": mention.context.place,
            "kept": mention.kept,
            "drop_reason": mention.drop_reason,
        }


def _stats(rows: list[dict[str, Any]], *, captions: int, parsed: int) -> dict[str, Any]:
    dropped = Counter(row["drop_reason"] for row in rows if not row["kept"])
    return {
        "captions": captions,
        "distinct_captions": parsed,
        "mentions": len(rows) - dropped["no_noun"],
        "kept": sum(row["kept"] for row in rows),
        "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
    }
