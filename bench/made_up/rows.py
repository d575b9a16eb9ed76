"""The rows of made-up stages, one block of images at a time, and the stage that publishes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.made_up.columns import (
    ADJECTIVES,
    PLACES,
    constant,
    heads,
    hexadecimal,
    integer_lists,
    lists,
    mixed,
    nullable,
    redrawn_masks,
    vocabulary,
)
from bench.made_up.draws import CAPTIONS, PROPOSALS, Block, Ints, Scale
from ovseg.config.base import Config
from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.files.parquet_files import write_parquet
from ovseg.stages import schema
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.stage import Inputs, Output, Progress, Stage

JUDGED = 118_287
"""Images with ground-truth masks, as COCO has."""
LABELLED = 20
"""One image in so many has pairs of its labels and of its masks' nouns."""
REASONS = pa.array(["image_dropped", "low_similarity", "low_margin"])
HELD = "in_benchmark:coco-stuff-171 by id"
LABELS, LABELS_AN_IMAGE = "coco-stuff-171", 7

Tables = pa.Table | Mapping[str, pa.Table]


class Made(Stage[Config]):
    """A stage whose shards a function makes: tables, or folders of tables by file name."""

    def __init__(self, name: str, make: Callable[[int], Tables], *, shards: int = 1) -> None:
        self.name, self.make, self.shards = name, make, shards  # type: ignore[misc]
        self.suffix = "" if name in ("checkpoints", "benchmarks", "scores") else ".parquet"  # type: ignore[misc]
        self.stats: dict[str, Any] = {}

    def plan(self, config: Config, inputs: Inputs) -> ShardPlan:
        """Plan the shards."""
        return ShardPlan(counts=(1,) * self.shards, ids_digest=self.name)

    def write(
        self, config: Config, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Make and write one shard."""
        made = self.make(shard)
        if isinstance(made, pa.Table):
            write_parquet(made, target)
            return Output(rows=made.num_rows)
        target.mkdir()
        for name, table in made.items():
            write_parquet(table, target / f"{name}.parquet")
        return Output(rows=1)

    def summarize(self, config: Config, inputs: Inputs, records: Sequence[Any]) -> dict[str, Any]:
        """Return the stats that were set."""
        return self.stats


# --------------------------------------------------------------------------------------
# Rows of a block of images


def _table(kind: pa.Schema, rows: int, **columns: Any) -> pa.Table:
    """Build a table: arrays as they are, other values as constants, null where left out."""
    arrays = []
    for field in kind:
        value = columns.pop(field.name, None)
        column = value if isinstance(value, pa.Array | pa.ChunkedArray) else None
        if column is None:
            column = constant(value, field.type, rows)
        arrays.append(column.cast(field.type))
    assert not columns, columns
    return pa.table(arrays, schema=kind)


def _image_columns(block: Block, of: Ints) -> dict[str, Any]:
    """Return what rows take from their images."""
    ids = block.ids
    path = pc.binary_join_element_wise(
        pc.utf8_lpad(pa.array(ids).cast(pa.string()), 12, "0"), "jpg", "."
    )
    place = pa.array(of)
    return {
        "dataset": block.scale.dataset,
        "image_id": pa.array(ids[of]),
        "image_path": path.take(place),
        "image_sha256": hexadecimal(*(mixed(ids, salt) for salt in range(1, 5))).take(place),
        "image_phash": pa.array(mixed(ids, 5)).take(place),
        "width": pa.array(block.sides[of, 1]),
        "height": pa.array(block.sides[of, 0]),
    }


def image_rows(block: Block) -> pa.Table:
    """Return the images of a block with their captions."""
    spoken = block.mentions
    texts = pa.array(["Wow!"]).take(pa.array(np.zeros(block.images * CAPTIONS, np.int64)))
    said = np.zeros(block.images * CAPTIONS, bool)
    said[spoken.own_captions] = True
    captions = pa.StructArray.from_arrays(
        [
            pa.array(np.repeat(block.ids, CAPTIONS) * 10 + np.tile(range(CAPTIONS), block.images)),
            pc.replace_with_mask(texts, pa.array(said), spoken.texts),
        ],
        fields=list(schema.CAPTION),
    )
    return _table(
        schema.IMAGES,
        block.images,
        **_image_columns(block, np.arange(block.images)),
        captions=lists(captions, np.full(block.images, CAPTIONS)),
        kept=pa.array(~block.dropped),
        drop_reason=nullable(pa.array([HELD]), np.where(block.dropped, 0, -1)),
    )


def noun_rows(block: Block) -> pa.Table:
    """Return the mentions of a block, and a row for each caption without one."""
    spoken, silent = block.mentions, np.ones(block.images * CAPTIONS, bool)
    silent[block.mentions.own_captions] = False
    stop = spoken.pair < 0
    adjectives = nullable(ADJECTIVES, spoken.adjective)
    said = _table(
        schema.NOUNS,
        len(stop),
        dataset=block.scale.dataset,
        image_id=pa.array(block.ids[spoken.image]),
        caption_id=pa.array(block.ids[spoken.image] * 10 + spoken.caption),
        noun=spoken.surface,
        surface=spoken.surface,
        char_start=pa.array(spoken.start),
        char_end=pa.array(spoken.start + spoken.length),
        head=nullable(heads(), np.where(stop, -1, spoken.noun)),
        adjectives=lists(adjectives.drop_null(), (spoken.adjective >= 0).astype(np.int64)),
        place=nullable(PLACES, spoken.place),
        parser="en_core_web_sm@3.8.0",
        kept=pa.array(~stop),
        drop_reason=nullable(pa.array(["stop_noun:part"]), np.where(stop, 0, -1)),
    )
    silent_ids = np.flatnonzero(silent)
    rest = _table(
        schema.NOUNS,
        len(silent_ids),
        dataset=block.scale.dataset,
        image_id=pa.array(block.ids[silent_ids // CAPTIONS]),
        caption_id=pa.array(block.ids[silent_ids // CAPTIONS] * 10 + silent_ids % CAPTIONS),
        parser="en_core_web_sm@3.8.0",
        kept=False,
        drop_reason="no_noun",
    )
    return pa.concat_tables([said, rest]).sort_by([("image_id", "ascending")])


def proposal_rows(block: Block) -> pa.Table:
    """Return the proposals of a block, without mask bytes; two in ten are dropped."""
    rows = block.images * PROPOSALS
    number, image = np.tile(range(PROPOSALS), block.images), np.arange(rows) // PROPOSALS
    areas, scores, boxes = _regions(block, image, number)
    reason = np.where(block.dropped[image], 0, np.where(number >= 8, 1, -1))
    shown = np.flatnonzero(~block.dropped[image] | (number == 0))
    reasons = pa.array(["image_dropped", "overlap"])
    table = _table(
        schema.PROPOSALS,
        rows,
        dataset=block.scale.dataset,
        image_id=pa.array(block.ids[image]),
        proposal_id=pa.array(np.where(block.dropped[image], -1, number)),
        mask_size=integer_lists(block.sides[image]),
        bbox_xyxy=boxes,
        area_fraction=areas,
        proposal_score=scores,
        proposal_model="facebook/maskformer-swin-base-coco@4b1c",
        kept=pa.array(reason < 0),
        drop_reason=nullable(reasons, reason),
    )
    return table.take(pa.array(shown))


def _regions(block: Block, image: Ints, proposal: Ints) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return area fractions, scores and boxes of proposals: functions of image and number."""
    draws = mixed((image + block.first) * PROPOSALS + proposal, 6)
    share = np.float32(0.02) + (draws % 4096).astype(np.float32) / 8192
    score = (np.float32(0.3) + (draws // 4096 % 1024).astype(np.float32) / 1500).clip(0, 1)
    sides = block.sides[image]
    left, top = sides[:, 1] // 10, sides[:, 0] // 10
    boxes = np.stack([left, top, sides[:, 1] - left, sides[:, 0] - top * 2], axis=1)
    return pa.array(share), pa.array(score), integer_lists(boxes)


def mined_rows(block: Block) -> pa.Table:
    """Return the mined pairs of a block, ordered by image and noun."""
    spoken = block.mentions
    pairs, image = len(block.image), block.image
    of_pair = np.flatnonzero(spoken.pair >= 0)
    of_pair = of_pair[np.argsort(spoken.pair[of_pair], kind="stable")]
    place = pa.array(of_pair)
    mentions = pa.StructArray.from_arrays(
        [
            pa.array((block.ids[spoken.image] * 10 + spoken.caption)[of_pair]),
            spoken.surface.take(place),
            pa.array(spoken.start[of_pair].astype(np.int32)),
            pa.array((spoken.start + spoken.length)[of_pair].astype(np.int32)),
        ],
        fields=list(schema.MENTION),
    )
    unpaired = pa.array(block.reason == 1)  # their images were dropped
    areas, scores, boxes = _regions(block, image, block.proposal)
    rng = block.rng(3)
    masks = _masks(rng, pairs, block.scale)
    margin = pa.array(
        rng.exponential(0.02, pairs).astype(np.float32), mask=rng.random(pairs) < 0.03
    )
    paired = {
        "proposal_id": pa.array(block.proposal),
        "mask_size": integer_lists(block.sides[image]),
        "bbox_xyxy": boxes,
        "area_fraction": areas,
        "proposal_score": scores,
        "clip_similarity": pa.array(block.similarity),
        "clip_margin": margin,
        "noun_rank": pa.array(block.rank),
        "proposal_rank": pa.array(np.ones(pairs, np.int64)),
        "mutual_best": pa.array(block.rank == 1),
        "proposal_model": constant("facebook/maskformer-swin-base-coco@4b1c", pa.string(), pairs),
        "mask_counts": masks,
    }
    return _table(
        schema.PAIRS,
        pairs,
        pair_id=hexadecimal(mixed(block.pair_keys, 8)),
        source="mined",
        round=0,
        noun=vocabulary().take(pa.array(block.noun)),
        mentions=lists(mentions, np.bincount(spoken.pair[of_pair], minlength=pairs)),
        head=heads().take(pa.array(block.noun)),
        parser="en_core_web_sm@3.8.0",
        clip_model="ViT-L-14-quickgelu/openai@96da",
        config_digest="0123456789abcdef",
        shard=block.number,
        kept=pa.array(block.reason == 0),
        drop_reason=nullable(REASONS, block.reason - 1),
        **_image_columns(block, image),
        **{
            name: pc.if_else(unpaired, constant(None, column.type, pairs), column)
            for name, column in paired.items()
        },
    )


def _masks(rng: np.random.Generator, rows: int, scale: Scale) -> pa.Array:
    """Return mask bytes; without them one byte each, so that every kept pair still has a mask."""
    return redrawn_masks(rng, rows) if scale.masks else constant(b"0", pa.binary(), rows)


def mask_noun_rows(block: Block) -> pa.Table:
    """Return pairs of ground-truth masks with caption nouns: those mined, of some images."""
    table = mined_rows(block)
    rows = int(np.searchsorted(block.image, block.scale.images // LABELLED - block.first))
    return _table(
        schema.PAIRS,
        rows,
        **{name: table[name].slice(0, rows) for name in table.column_names}
        | {
            "pair_id": hexadecimal(mixed(block.pair_keys[:rows], 9)),
            "source": "gt_noun",
            "proposal_score": None,
            "proposal_model": f"{LABELS}@4b1c",
        },
    )


def label_rows(block: Block) -> pa.Table:
    """Return pairs of ground-truth masks with their labels, of some images."""
    images = min(block.images, max(0, block.scale.images // LABELLED - block.first))
    image = np.repeat(np.arange(images), LABELS_AN_IMAGE)
    names = pa.array([each.name for each in read_vocabulary(LABELS)])
    step = mixed(image, 10) % np.uint64(len(names))
    label = (step.astype(np.int64) + np.tile(range(LABELS_AN_IMAGE), images)) % len(names)
    areas, _, boxes = _regions(block, image, label % PROPOSALS)
    return _table(
        schema.PAIRS,
        len(image),
        pair_id=hexadecimal(mixed((image + block.first) * len(names) + label, 11)),
        source="gt_label",
        round=0,
        noun=names.take(pa.array(label)),
        mask_size=integer_lists(block.sides[image]),
        mask_counts=_masks(block.rng(4), len(image), block.scale),
        bbox_xyxy=boxes,
        area_fraction=areas,
        proposal_model=f"{LABELS}@4b1c",
        config_digest="0123456789abcdef",
        shard=block.number,
        kept=True,
        **_image_columns(block, image),
    )


def truth_rows(block: Block) -> pa.Table:
    """Return the judgments of the kept mined pairs of a block."""
    judged = np.flatnonzero((block.reason == 0) & (block.first + block.image < JUDGED))
    nouns = vocabulary().take(pa.array(block.noun[judged]))
    names = pa.array([each.name for each in read_vocabulary(LABELS)])
    draws = mixed(block.pair_keys[judged], 12)
    known = np.where(block.noun[judged] % 3 == 0, block.noun[judged] % len(names), -1)
    seen = np.where(draws % 3 == 0, known, (draws % np.uint64(len(names))).astype(np.int64))
    return _table(
        schema.PAIR_TRUTH,
        len(judged),
        pair_id=hexadecimal(mixed(block.pair_keys[judged], 8)),
        noun=nouns,
        noun_category=nullable(names, known),
        gt_category=nullable(names, seen),
        gt_share=pa.array((draws % 100).astype(np.float32) / 100),
        gt_iou=pa.array((draws // 100 % 100).astype(np.float32) / 100),
        correct=pa.array((known == seen) & (known >= 0)),
    )
