"""Ablations of what CLIP is trained on, and how: pairs, phases, their order, depth, mining rounds.

Figures called published are those of OVSeg (CVPR 2023) with Swin-B and ViT-L/14, mIoU in %; A-847,
A-150 and PC-59 are ADE20K with 847 and 150 classes and Pascal Context with 59. Costs on real data
are estimates: a fine-tuning of ViT-L/14 on 440,000 pairs sees 2.2 million regions; a benchmark
takes 0.8 s an image by the paper (A5000), half an hour for the 2,000 images of A-150.
"""

from __future__ import annotations

from ovseg.ablations.cells import ALL_CLASSES, Cell, Published, Settings, Table, above
from ovseg.config.reporting import Claim

FT: Settings = {"trains": "image_encoder"}
MPT: Settings = {"trains": "mask_prompts"}
JOINT: Settings = {"trains": "joint"}
MARGIN = 0.01
"""Largest deficit that counts as tied: one point."""
A_TRAINING = "a training of ViT-L/14, hours on one 80 GB GPU"
A_BENCHMARK = "half an hour on A-150"
ORIGINAL = Cell(title="original CLIP", repeated=True)


def _source(title: str, curation: str, *, repeated: bool = False) -> Cell:
    return Cell(title=title, settings={"curation": curation}, trains=(FT,), repeated=repeated)


SOURCES = Table(
    title="Where the training pairs come from (Tables 2 and 8)",
    question="Do caption nouns teach more than labels, on masks that nobody drew?",
    cells={
        "original": ORIGINAL,
        "gt-labels": _source("GT masks, labels", "gt_labels", repeated=True),
        "gt-nouns": _source("GT masks, nouns of 1 caption", "gt_nouns", repeated=True),
        "one-caption": _source("proposals, nouns of 1 caption", "one_caption", repeated=True),
        "five-captions": _source("proposals, nouns of 5 captions", "five_captions"),
        "labels-captions": _source("labels and captions", "labels_and_captions"),
        "consistent": _source("proposals, pairs that agree", "consistent", repeated=True),
    },
    reference="original",
    expect="labels gain least on A-150 and lose on A-847, proposals with one caption gain most",
    cost=f"six times {A_TRAINING}, the largest on 1.3 to 1.4 million pairs; seven benchmarks,"
    f" {A_BENCHMARK} each; labels and masks of COCO-Stuff as --labels; read all captions:"
    " --set data.captions_per_image=5",
    published=Published(
        source="Tables 2 and 8, fine-tuned only",
        headings=("pairs", "A-847", "A-150", "PC-59"),
        rows=(
            ("none: original CLIP", "7.3", "21.8", "51.4"),
            ("GT masks, labels (965K pairs, 171 nouns)", "5.3", "23.0", "57.3"),
            ("GT masks, 1 caption (440K, 12K)", "7.9", "24.2", "53.2"),
            ("proposals, 1 caption (440K, 12K)", "8.8", "28.8", "55.7"),
            ("proposals, 5 captions (1.3M, 27K)", "8.8", "28.6", "55.5"),
            ("labels and captions (1.4M)", "-", "26.7", "-"),
        ),
    ),
    claims=(
        Claim(
            name="labels-overfit",
            text="Labels of the seen classes alone overfit: unseen mIoU falls, or gains least",
            ways=(
                above("original", "gt-labels"),
                (*above("gt-nouns", "gt-labels"), *above("one-caption", "gt-labels")),
            ),
        ),
        Claim(
            name="nouns-generalise",
            text="Caption nouns generalise: with them unseen mIoU rises over the original CLIP",
            ways=((*above("one-caption", "original"), *above("gt-nouns", "original")),),
        ),
        Claim(
            name="proposals-with-nouns",
            text="Proposals with nouns are at least as good as GT masks with labels on unseen"
            " classes",
            ways=(above("one-caption", "gt-labels", margin=MARGIN),),
        ),
    ),
    note="*Pairs that agree* is the storybook's own selection (`sql/curation/consistent.sql`)."
    " Ground-truth masks exist only for seen classes, so no noun of an unseen one gets its mask."
    " Ground-truth masks show how CLIP itself changed; mIoU includes the MaskFormer's branch.",
)

PROMPTS = Table(
    title="Fine-tuning and mask prompt tuning (Table 3)",
    question="What do mask prompts bring, alone and after fine-tuning?",
    cells={
        "original": ORIGINAL,
        "mpt": Cell(title="mask prompts", trains=(MPT,), repeated=True),
        "ft": Cell(title="fine-tuned", trains=(FT,), repeated=True),
        "ft-mpt": Cell(title="fine-tuned, then prompts", trains=(FT, MPT), repeated=True),
    },
    reference="original",
    expect="A-150: 21.8, 26.5, 28.8 and 29.6 in this order",
    cost=f"three times {A_TRAINING}; four benchmarks, {A_BENCHMARK} each",
    published=Published(
        source="Table 3",
        headings=("model", "A-847", "A-150", "PC-59"),
        rows=(
            ("original CLIP", "7.3", "21.8", "51.4"),
            ("mask prompts", "8.4", "26.5", "55.4"),
            ("fine-tuned", "8.8", "28.8", "55.7"),
            ("fine-tuned, then prompts", "9.0", "29.6", "55.7"),
        ),
    ),
    claims=(
        Claim(
            name="prompts-alone",
            text="Mask prompts alone help, with CLIP's own weights as they were",
            ways=(above("mpt", "original", metric=ALL_CLASSES),),
        ),
    ),
)

ORDER = Table(
    title="The order of fine-tuning and prompts (Table 5)",
    question="First the image encoder, first the prompts, or both at once?",
    cells={
        "ft": Cell(title="fine-tuned", trains=(FT,), repeated=True),
        "mpt": Cell(title="mask prompts", trains=(MPT,), repeated=True),
        "ft-mpt": Cell(title="fine-tuned, then prompts", trains=(FT, MPT), repeated=True),
        "mpt-ft": Cell(title="prompts, then fine-tuned", trains=(MPT, FT), repeated=True),
        "joint": Cell(title="both at once", trains=(JOINT,), repeated=True),
    },
    reference="ft",
    expect="A-150: prompts last 29.6, prompts first 28.1, jointly 29.0",
    cost=f"five times {A_TRAINING}; five benchmarks, {A_BENCHMARK} each",
    published=Published(
        source="Table 5",
        headings=("order", "A-847", "A-150"),
        rows=(
            ("fine-tuned, then prompts", "9.0", "29.6"),
            ("prompts, then fine-tuned", "8.5", "28.1"),
            ("both at once", "8.8", "29.0"),
        ),
    ),
    claims=(
        Claim(
            name="prompts-last",
            text="Mask prompts after fine-tuning are the best or tied (within a point)",
            ways=(
                above("ft-mpt", "ft", "mpt", "mpt-ft", "joint", metric=ALL_CLASSES, margin=MARGIN),
            ),
        ),
    ),
    note="In *both at once* the encoder and the prompts each keep the learning rate they have"
    " alone.",
)


def _depths(
    trains: tuple[Settings, ...], label: str, presets: dict[tuple[str, ...], tuple[int, ...]]
) -> dict[str, Cell]:
    return {
        f"{label}{depth}": Cell(
            title=f"{'fine-tuned, ' if len(trains) > 1 else ''}depth {depth}",
            trains=(*trains[:-1], {**trains[-1], "prompt_depth": depth}),
            presets=names,
        )
        for names, depths in presets.items()
        for depth in depths
    }


_DEPTHS = {(): (1,), ("storybook",): (2, 4), ("paper", "gated"): (3, 6, 12)}
"""The storybook's CLIP has 4 blocks, ViT-L/14 has 24."""

DEPTH = Table(
    title="How deep the mask prompts go (Table 6)",
    question="In how many blocks are blank patches prompted?",
    cells={
        "original": ORIGINAL,
        **_depths((MPT,), "depth-", _DEPTHS),
        "ft": Cell(title="fine-tuned", trains=(FT,)),
        **_depths((FT, MPT), "ft-depth-", _DEPTHS),
    },
    reference="original",
    expect="A-150 hardly depends on the depth: 25.7 to 26.8, after fine-tuning 29.3 to 29.6",
    cost=f"nine times {A_TRAINING}, which only eight prompts' phases differ in; ten benchmarks,"
    f" {A_BENCHMARK} each",
    published=Published(
        source="Table 6, A-150",
        headings=("depth", "prompts alone", "after fine-tuning"),
        rows=(
            ("1", "25.7", "29.3"),
            ("3", "26.5", "29.6"),
            ("6", "26.8", "29.4"),
            ("12", "26.8", "29.3"),
        ),
    ),
)


CAPTIONS = Table(
    title="One or five captions an image (Table 2, cases 3 and 4)",
    question="Do more captions an image teach more?",
    cells={
        "original": ORIGINAL,
        "one": _source("1 caption", "one_caption", repeated=True),
        "five": _source("5 captions", "five_captions"),
    },
    reference="one",
    expect="A-150: 28.8 with one caption, 28.6 with five",
    cost=f"twice {A_TRAINING}, the second on 1.3 million pairs; three benchmarks, {A_BENCHMARK}"
    " each; read all captions: --set data.captions_per_image=5",
    published=Published(
        source="Table 2",
        headings=("captions", "A-847", "A-150", "PC-59"),
        rows=(("1", "8.8", "28.8", "55.7"), ("5", "8.8", "28.6", "55.5")),
    ),
)

SEEN = Table(
    title="Seen and unseen classes",
    question="Which classes gain: those whose masks were used in training, or the others?",
    cells={
        "original": ORIGINAL,
        "ft": Cell(title="fine-tuned", trains=(FT,), repeated=True),
        "ft-mpt": Cell(title="fine-tuned, then prompts", trains=(FT, MPT), repeated=True),
    },
    reference="original",
    expect="A-150: 37.6 over the classes shared with COCO-Stuff, 21.9 over the others",
    cost=f"twice {A_TRAINING}; three benchmarks, {A_BENCHMARK} each",
    published=Published(
        source="Section 4, A-150, adapted",
        headings=("classes", "mIoU"),
        rows=(("seen", "37.6"), ("unseen", "21.9")),
    ),
)


ROUNDS = Table(
    title="Mining rounds",
    question="Does pairing again, with the adapted CLIP, give pairs that teach more?",
    cells={
        "original": ORIGINAL,
        "round-0": Cell(title="paired by the original", trains=(FT,), repeated=True),
        "round-1": Cell(title="paired again by that", settings={"mining.round": 1}, trains=(FT,)),
        "round-2": Cell(title="and once more", settings={"mining.round": 2}, trains=(FT,)),
    },
    reference="round-0",
    expect="not published; the paper mines once, with the original CLIP",
    cost=f"three times {A_TRAINING}, three pairings of 118,000 images; four benchmarks,"
    f" {A_BENCHMARK} each",
    note="Each round trains the original CLIP anew; only the CLIP that chooses the masks differs.",
)
