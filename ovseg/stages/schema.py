"""The Arrow schema of every table: the only place a column is defined.

The metadata hold the grain. Rejects are rows too (`kept`, `drop_reason`). No row holds a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa


def _schema(grain: str, *fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in fields], metadata={"grain": grain})


def _of(kind: pa.DataType, names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, kind) for name in names.split()]


CAPTION = pa.struct([("caption_id", pa.int64()), ("text", pa.string())])

IMAGES = _schema(
    "one row for each image of the source",
    ("dataset", pa.string()),
    ("image_id", pa.int64()),
    ("image_path", pa.string()),  # relative to the image root; a tar's member as a.tar#b.jpg
    ("image_sha256", pa.string()),
    ("image_phash", pa.uint64()),
    *_of(pa.int32(), "width height"),
    ("captions", pa.list_(CAPTION)),
    ("kept", pa.bool_()),
    ("drop_reason", pa.string()),
)

FINGERPRINTS = _schema(
    "one row for each image of a benchmark",
    ("benchmark", pa.string()),
    ("image_id", pa.int64()),
    ("file_name", pa.string()),
    ("image_sha256", pa.string()),
    ("image_phash", pa.uint64()),
    ("drop_reason", pa.string()),  # why it has no hash
)

SPAN = (  # position in a caption
    ("surface", pa.string()),
    ("char_start", pa.int32()),  # in Unicode code points of the text in `images`
    ("char_end", pa.int32()),
)

NOUNS = _schema(
    "one row for each mention of a noun in a caption; a caption without a noun has one row too",
    ("dataset", pa.string()),
    ("image_id", pa.int64()),
    ("caption_id", pa.int64()),
    ("noun", pa.string()),  # lemma; for a compound, its words joined by a space
    *SPAN,
    ("head", pa.string()),  # for a compound, the lemma of its head; otherwise null
    ("adjectives", pa.list_(pa.string())),  # from the caption: red, little
    ("place", pa.string()),  # where it is, shortened: on the grass; otherwise null
    ("parser", pa.string()),
    ("kept", pa.bool_()),
    ("drop_reason", pa.string()),
)

PROPOSALS = _schema(
    "one row for each proposal of an image; an image without one has one row with a drop_reason",
    ("dataset", pa.string()),
    ("image_id", pa.int64()),
    ("proposal_id", pa.int32()),  # of query or ground-truth class; -1 if the image has none
    ("label", pa.string()),  # class name of a ground-truth mask; otherwise null
    ("mask_size", pa.list_(pa.int32())),  # height, width; Parquet loses fixed sizes next to nulls
    ("mask_counts", pa.binary()),  # compressed COCO RLE
    ("bbox_xyxy", pa.list_(pa.int32())),  # exclusive right and bottom
    ("area_fraction", pa.float32()),
    ("proposal_score", pa.float32()),
    ("proposal_model", pa.string()),
    ("kept", pa.bool_()),
    ("drop_reason", pa.string()),
)

MENTION = pa.struct([("caption_id", pa.int64()), *SPAN])

PAIRS = _schema(
    "one row for each (source, dataset, round, image_id, noun)",
    ("pair_id", pa.string()),  # 16 hex digits over the grain and the mask
    ("source", pa.string()),  # mined, gt_label, gt_noun
    ("dataset", pa.string()),
    ("round", pa.int32()),
    ("image_id", pa.int64()),
    ("noun", pa.string()),  # lemma; for gt_label the class name, null without labels
    ("image_path", pa.string()),
    ("image_sha256", pa.string()),
    ("image_phash", pa.uint64()),
    *_of(pa.int32(), "width height"),
    ("mentions", pa.list_(MENTION)),
    ("head", pa.string()),
    ("parser", pa.string()),
    ("proposal_id", pa.int32()),
    ("mask_size", pa.list_(pa.int32())),
    ("mask_counts", pa.binary()),
    ("bbox_xyxy", pa.list_(pa.int32())),
    ("area_fraction", pa.float32()),
    ("proposal_score", pa.float32()),
    ("clip_similarity", pa.float32()),
    ("clip_margin", pa.float32()),  # best minus second proposal; null with one proposal
    ("noun_rank", pa.int32()),  # among the image's nouns for this proposal, from 1
    ("proposal_rank", pa.int32()),  # among the image's proposals for this noun, from 1
    ("mutual_best", pa.bool_()),
    ("kept", pa.bool_()),
    ("drop_reason", pa.string()),
    *_of(pa.string(), "proposal_model clip_model config_digest"),
    ("shard", pa.int32()),
)

TEXTS = _schema(
    "one row for each distinct text and model",
    ("noun", pa.string()),
    ("text", pa.string()),
    ("clip_model", pa.string()),
    ("embedding", pa.list_(pa.float32())),
)

CURATED = _schema(
    "one row for each pair a curation query selected",
    ("pair_id", pa.string()),
    ("noun", pa.string()),
)

PIXELS_OF_CLASS = pa.struct([("class_id", pa.int32()), ("pixels", pa.int64())])

PREPARED = _schema(
    "one row for each image of a published validation set that was prepared",
    ("name", pa.string()),  # of image and label map, without their endings
    ("source_image", pa.string()),  # relative to the owner's folder
    ("source_label", pa.string()),
    ("image", pa.string()),  # relative to the prepared folder; null if dropped
    *_of(pa.string(), "label image_sha256 label_sha256"),
    *_of(pa.int32(), "width height"),
    ("class_pixels", pa.list_(PIXELS_OF_CLASS)),  # of the classes that occur
    ("kept", pa.bool_()),
    ("drop_reason", pa.string()),
)

CONFUSION = _schema(
    "one row for each (image, ground-truth class, predicted class) with pixels",
    ("image_id", pa.int64()),
    ("gt_class", pa.int32()),  # K stands for ignored pixels
    ("predicted_class", pa.int32()),
    ("pixels", pa.int64()),
)

KIND_PIXELS = _schema(
    "one row for each (image, kind of pixels, class) with pixels of the kind",
    ("image_id", pa.int64()),
    ("kind", pa.string()),  # boundary; small, medium, large: of objects of that size
    ("class_id", pa.int32()),
    ("objects", pa.int32()),  # connected parts in ground truth; null for boundary
    ("hit", pa.int64()),
    ("gt_pixels", pa.int64()),
    ("predicted_pixels", pa.int64()),  # for a size: hits plus its share of the false positives
)

GT_MASKS = _schema(
    "one row for each ground-truth mask that CLIP classified",
    ("image_id", pa.int64()),
    ("gt_class", pa.int32()),
    ("predicted_class", pa.int32()),  # K: too small for CLIP
    ("gt_rank", pa.int32()),  # of the true class among all, from 1
    ("area_fraction", pa.float32()),
)

PAIR_TRUTH = _schema(
    "one row for each kept pair whose image has ground-truth masks",
    ("pair_id", pa.string()),
    ("noun", pa.string()),
    ("noun_category", pa.string()),  # the category the noun names; null if none
    ("gt_category", pa.string()),  # of most of the mask's pixels
    ("gt_share", pa.float32()),  # share of the mask's pixels in gt_category
    ("gt_iou", pa.float32()),  # with the region of gt_category in the image
    ("correct", pa.bool_()),  # the noun names gt_category
)

CLASS_SCORES = _schema(
    "one row for each class of a benchmark run",
    ("benchmark", pa.string()),
    ("benchmark_digest", pa.string()),
    ("class_id", pa.int32()),
    ("class_name", pa.string()),
    ("seen", pa.bool_()),
    ("iou", pa.float64()),  # null if neither ground truth nor prediction has a pixel
    ("accuracy", pa.float64()),
    ("gt_pixels", pa.int64()),
    ("predicted_pixels", pa.int64()),
    ("gt_masks", pa.int64()),
    ("gt_mask_accuracy", pa.float64()),
    ("gt_mask_top5", pa.float64()),
    ("published_seen", pa.bool_()),  # by the published split; null without one
    ("boundary_iou", pa.float64()),
    ("iou_small", pa.float64()),  # null without objects of the size
    ("iou_medium", pa.float64()),
    ("iou_large", pa.float64()),
)

PROTOCOL_FIELDS = (
    ("images", pa.int64()),  # scored; unreadable images are left out
    ("image_limit", pa.int64()),  # only the first n images, for a trial; null for all
    ("classes", pa.int32()),
    ("vocabulary_digest", pa.string()),  # of the class names, one per line
    ("checkpoint_digest", pa.string()),  # of the stage that trained the CLIP; null if none did
    ("clip_digest", pa.string()),
    ("maskformer_digest", pa.string()),
    ("resize_rule", pa.string()),
    ("templates", pa.string()),
    ("mask_threshold", pa.float64()),
    ("ensemble", pa.string()),
    ("ensemble_weight", pa.float64()),
    ("oracle", pa.string()),  # none, gt_masks, gt_labels
    ("region", pa.string()),  # what CLIP sees of a proposal: mean, zero, box, image, ...
    ("expand_ratio", pa.float64()),  # how far the box is enlarged
    ("mask_prompts", pa.bool_()),  # used if the CLIP has them
    ("inference", pa.string()),  # sum, best_mask
    ("trained_on", pa.string()),  # vocabularies behind the headline split of seen classes, or null
    ("seen_split", pa.string()),  # the published split next to it
    ("system", pa.string()),  # its name: ovseg, zsseg, ...
    ("settings", pa.string()),  # JSON: benchmark settings that differ from the defaults
)

SCORES = _schema(
    "one row for each metric of a benchmark run",
    ("benchmark", pa.string()),
    ("benchmark_digest", pa.string()),
    ("arm", pa.string()),
    ("metric", pa.string()),
    ("value", pa.float64()),
    ("low", pa.float64()),  # bounds of the bootstrap interval over images
    ("high", pa.float64()),
    ("level", pa.float64()),  # of the interval, such as 0.95
    ("denominator", pa.string()),  # the metric is a mean or share over these: union, gt, ...
    *PROTOCOL_FIELDS,
)

TUNING_COUNTS = _schema(
    "one row for each (mask threshold, ensemble weight, class) with pixels, of a block of images",
    ("mask_threshold", pa.float64()),
    ("ensemble_weight", pa.float64()),
    ("class_id", pa.int32()),
    *_of(pa.int64(), "hit gt_pixels predicted_pixels"),
)

TUNING = _schema(
    "one row for each mask threshold and ensemble weight that were tried",
    ("benchmark", pa.string()),  # whose images these are
    ("arm", pa.string()),
    ("split", pa.string()),  # training, or validation if tuned on the images it is scored on
    ("metric", pa.string()),  # that decides which is best
    ("value", pa.float64()),
    ("best", pa.bool_()),
    *_of(pa.float64(), "miou_union miou_gt fwiou macc pacc"),
    *_of(pa.float64(), "miou_union_seen miou_union_unseen miou_union_harmonic"),
    *PROTOCOL_FIELDS,
)

PUBLISHED_RESULTS = _schema(
    "one row for each (benchmark, method, setting, metric) as its authors published it",
    ("benchmark", pa.string()),
    ("method", pa.string()),
    ("backbone", pa.string()),
    ("trained_on", pa.string()),
    ("setting", pa.string()),  # what else distinguishes the row from others of the method
    ("oracle", pa.string()),
    ("region", pa.string()),  # mean, or box if the background was kept
    ("metric", pa.string()),  # miou if the source does not state the denominator
    ("value", pa.float64()),  # a fraction, as all scores here
    ("denominator", pa.string()),  # union, gt, masks; null if the source does not state it
    ("images", pa.list_(pa.int64())),  # possible sizes of the whole validation set
    ("source", pa.string()),
)

PHASE_CURVE = _schema(
    "one row for each snapshot of a training phase and part of the benchmark's classes",
    ("step", pa.int32()),  # optimizer steps within the phase; 0 is the CLIP it started from
    ("part", pa.string()),  # seen, unseen, all
    ("gt_mask_accuracy", pa.float64()),  # of CLIP on ground-truth masks; null without masks
    ("gt_masks", pa.int64()),
)

LEARNING_CURVE = _schema(
    "one row for each (benchmark, arm, phase, step, part)",
    ("arm", pa.string()),
    ("phase", pa.int32()),  # from 1, in the order of training
    ("trains", pa.string()),  # image_encoder, mask_prompts, joint, ...
    ("step", pa.int32()),  # optimizer steps within the phase; 0 is the CLIP it started from
    ("total_step", pa.int32()),  # over all phases of the arm
    ("part", pa.string()),  # seen, unseen, all
    ("gt_mask_accuracy", pa.float64()),
    ("gt_masks", pa.int64()),
    ("benchmark", pa.string()),
)

STUDY = _schema(
    "one row for each (benchmark, seed or all, arm, baseline or none, metric, kind of interval)",
    ("benchmark", pa.string()),
    ("seed", pa.string()),  # a number, or all for the mean over seeds
    ("arm", pa.string()),
    ("baseline", pa.string()),  # the value is arm minus baseline; null for a score itself
    ("metric", pa.string()),
    ("kind", pa.string()),  # what was resampled: images, seeds, images+seeds
    ("value", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("improved", pa.float64()),  # for a difference, share of draws above 0; otherwise null
)

CLAIMS = _schema(
    "one row for each (benchmark, ablation, claim, way, better, worse, metric)",
    *_of(pa.string(), "benchmark ablation claim text verdict"),  # of the whole claim
    ("way", pa.int32()),  # a claim holds if all comparisons of one way do
    *_of(pa.string(), "better worse metric answer"),  # of this comparison
    ("margin", pa.float64()),  # better minus worse must be above minus this
    ("seeds", pa.int32()),
    *_of(pa.float64(), "value low high seeds_low seeds_high"),  # null: not scored, one seed
)

TRAINING_LOG = _schema(
    "one row for each optimiser step",
    ("step", pa.int64()),
    ("epoch", pa.int32()),
    *_of(pa.float64(), "loss learning_rate logit_scale"),
)


def rows_to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Build a table of exactly this schema; a column that a row leaves out is null.

    Raises:
        KeyError: a row has a column that is not in the schema.
    """
    rows = list(rows)
    for row in rows:
        if unknown := set(row) - set(schema.names):
            raise KeyError(f"not in the schema: {sorted(unknown)}")
    columns = [pa.array([r.get(f.name) for r in rows], type=f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)
