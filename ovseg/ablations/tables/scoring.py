"""Ablations of how regions are named: the ensemble's branches, the crops, whole systems by name.

`ovseg.ablations.tables.training` explains published figures and costs.
"""

from __future__ import annotations

from typing import Any

from ovseg.ablations.cells import ALL_CLASSES, Cell, Published, Settings, Table, above
from ovseg.ablations.tables.training import A_BENCHMARK, A_TRAINING, FT, MPT
from ovseg.config.reporting import Claim
from ovseg.config.systems import SYSTEMS, System


def _branch(title: str, ensemble: str | None, trains: tuple[Settings, ...] = ()) -> Cell:
    settings = {} if ensemble is None else {"benchmarks.ensemble": ensemble}
    return Cell(title=title, settings=settings, trains=trains, repeated=True)


ENSEMBLE = Table(
    title="The two branches of the ensemble (Table 4)",
    question="Is the geometric ensemble better than MaskFormer's and CLIP's answers alone?",
    cells={
        "maskformer": _branch("MaskFormer alone", "maskformer_only"),
        "original-clip": _branch("original CLIP alone", "clip_only"),
        "original-both": _branch("original, both", None),
        "adapted-clip": _branch("adapted CLIP alone", "clip_only", (FT, MPT)),
        "adapted-both": _branch("adapted, both", None, (FT, MPT)),
    },
    reference="original-both",
    expect="A-150: 19.6 by MaskFormer; 14.3 and 21.8 by the original CLIP, alone and with it; 25.1"
    " and 29.6 by the adapted one",
    cost=f"twice {A_TRAINING}; five benchmarks, {A_BENCHMARK} each; a MaskFormer with class"
    " embeddings, as `ovseg import-checkpoint` makes of OVSeg's: one of closed vocabulary has no"
    " branch of its own",
    published=Published(
        source="Table 4, A-150",
        headings=("CLIP", "MaskFormer alone", "CLIP alone", "both"),
        rows=(("original", "19.6", "14.3", "21.8"), ("adapted", "19.6", "25.1", "29.6")),
    ),
    claims=(
        Claim(
            name="ensemble",
            text="The ensemble of both branches beats each branch (adapted CLIP, mIoU of all"
            " classes)",
            ways=(above("adapted-both", "maskformer", "adapted-clip", metric=ALL_CLASSES),),
        ),
    ),
    note="Ground-truth masks are named by CLIP alone, whatever the ensemble.",
)


def _crops(model: str, trains: tuple[Settings, ...]) -> dict[str, Cell]:
    shown: dict[str, tuple[str, dict[str, Any]]] = {
        "mean": ("mean fill", {}),
        "box": ("box, unmasked", {"benchmarks.region": "box"}),
        "zero": ("black fill", {"benchmarks.region": "zero"}),
        "image": ("whole image", {"benchmarks.region": "image"}),
        "expand": ("mean fill, box x 1.5", {"benchmarks.expand_ratio": 1.5}),
    }
    return {
        f"{model}-{name}": Cell(
            title=f"{model}, {title}",
            settings=settings,
            trains=trains,
            repeated=name == "mean" or (name == "box" and not trains),
        )
        for name, (title, settings) in shown.items()
    }


CROPS = Table(
    title="How a region is shown to CLIP (appendix A.1)",
    question="What do masked crops do to CLIP, before and after it is adapted to them?",
    cells={**_crops("original", ()), **_crops("adapted", (FT,))},
    reference="original-mean",
    expect="on A-150 with ground-truth masks the original CLIP reaches 20.1 by masked crops and"
    " 13.8 by unmasked boxes",
    cost=f"{A_TRAINING}; ten benchmarks, {A_BENCHMARK} each",
    published=Published(
        source="appendix A.1, original CLIP on A-150, ground-truth masks",
        headings=("crop", "mIoU"),
        rows=(("mean fill", "20.1"), ("box, unmasked", "13.8")),
    ),
    claims=(
        Claim(
            name="masked-crops-hurt",
            text="Masked crops hurt the original CLIP: it names ground-truth masks better by plain"
            " boxes",
            ways=(above("original-box", "original-mean", metric="mask_acc"),),
            note="On photographs, the paper's own oracle finds plain boxes worse (13.8 against"
            " 20.1 mIoU): a box also shows what is next to the mask. What it calls the bottleneck"
            " is the distance of both from correct masks with correct names.",
        ),
        Claim(
            name="adapted-to-crops",
            text="Adaptation is to masked crops: it raises the naming of masks shown so",
            ways=(above("adapted-mean", "original-mean", metric="mask_acc"),),
        ),
    ),
)


def _proposals(
    title: str, *, presets: tuple[str, ...] = (), skipped: str = "", **settings: object
) -> Cell:
    """Make a cell of a proposal source; CLIP alone names, as sources may know no classes."""
    named = {f"benchmarks.{name}": value for name, value in settings.items()}
    return Cell(
        title=title,
        settings={"benchmarks.ensemble": "clip_only", **named},
        trains=(FT,),
        presets=presets,
        skipped=skipped,
    )


def _mask2former(slug: str, weights: str, *presets: str) -> dict[str, Cell]:
    """Make cells of a closed-vocabulary network: by its queries, and by segments made of them."""
    kinds = ("queries", "semantic", "instance", "panoptic")
    return {
        slug if segments == "queries" else f"{slug}-{segments}": _proposals(
            f"Mask2Former, {segments}", presets=presets, maskformer=weights, segments=segments
        )
        for segments in kinds
    }


def _mined_from(title: str, source: str) -> Cell:
    """Make a cell of pairs mined from a source's masks; the benchmark keeps the MaskFormer's."""
    return Cell(
        title=title,
        settings={"benchmarks.ensemble": "clip_only", "mining.proposals.source": source},
        trains=(FT,),
    )


_NO_SAM = "the embedded world has no SAM: take a preset of published weights"


PROPOSALS = Table(
    title="Where the proposals of the benchmark come from",
    question="How much depends on the masks, and on how a network's queries are used?",
    cells={
        "queries": _proposals("MaskFormer, queries"),
        "semantic": _proposals("MaskFormer, semantic", segments="semantic"),
        "instance": _proposals("MaskFormer, instance", segments="instance"),
        "panoptic": _proposals("MaskFormer, panoptic", segments="panoptic"),
        **_mask2former("mask2former", "storybook-mask2former", "storybook"),
        **_mask2former(
            "mask2former-coco", "facebook/mask2former-swin-base-coco-panoptic", "paper", "gated"
        ),
        "sam": _proposals(
            "SAM",
            presets=("paper", "gated"),
            skipped=_NO_SAM,
            proposals="sam",
            maskformer="facebook/sam-vit-base",
        ),
        "sam2": _proposals(
            "SAM 2",
            presets=("paper", "gated"),
            skipped=_NO_SAM,
            proposals="sam",
            maskformer="facebook/sam2.1-hiera-tiny",
        ),
        "maskcut": _proposals("normalised cuts", proposals="maskcut"),
        "clusters": _proposals("clusters of CLIP's patches", proposals="clusters"),
        "slic": _proposals("superpixels, SLIC", proposals="slic"),
        "felzenszwalb": _proposals("superpixels, Felzenszwalb", proposals="felzenszwalb"),
        "gt-masks": _proposals("ground truth (oracle)", oracle="gt_masks"),
        "gt-labels": _proposals("MaskFormer, named by ground truth (oracle)", oracle="gt_labels"),
        "mined-clusters": _mined_from("pairs mined from clusters", "clusters"),
        "mined-slic": _mined_from("pairs mined from superpixels", "slic"),
    },
    reference="queries",
    expect="not published but for two oracles on A-150: 20.1 mIoU with ground-truth masks named by"
    " the original CLIP, 66.5 with proposals named by ground truth",
    cost=f"{A_TRAINING}; 16 benchmarks, {A_BENCHMARK} each; two more minings and trainings",
    note="CLIP alone names the proposals in every cell, as most sources know no classes.",
)


def _system(name: str, system: System) -> Cell:
    """Make a cell of a system, with the arm of its name, else with the adapted CLIP."""
    arms = system.settings.get("arms")
    (trains,) = [(FT, MPT)] if arms is None else arms.values()
    return Cell(
        title=f"{name}: {system.title}",
        settings={"benchmarks.system": name},
        trains=tuple(trains),
        repeated=name == "ovseg",
    )


def _adapted_tokens(image_size: int, *presets: str) -> Cell:
    """Make a cell of mask tokens with an image encoder trained for them, at one image size."""
    tokens = {"embedder": "mask_tokens", "region": "image", "image_size": image_size}
    return Cell(
        title="maskclip: the image encoder adapted to mask tokens on the pairs",
        settings={"benchmarks.system": "maskclip", "benchmarks.image_size": image_size},
        trains=({**FT, **tokens},),
        presets=presets,
    )


COMPARED = Table(
    title="Published systems, with the same proposals and the same benchmark",
    question="How well do other methods do with the same parts?",
    cells={
        **{name: _system(name, system) for name, system in SYSTEMS.items()},
        "fc-clip-retrieval": Cell(
            title="fc-clip with the votes of the nearest mined regions",
            settings={
                "benchmarks.system": "fc-clip",
                "benchmarks.retrieval_weight": 0.3,
                "benchmarks.max_bad_fraction": 0.1,  # small regions may cover no whole patch
            },
        ),
        "maskclip-adapted": _adapted_tokens(96, "storybook"),
        "maskclip-adapted-own": _adapted_tokens(0, "paper", "gated"),
    },
    reference="ovseg",
    expect="A-150: SimBaseline 15.3 (R-101c, COCO-Stuff-156), OVSeg 29.6; each by its own models",
    cost=f"{A_TRAINING} for each phase of ovseg; a benchmark a system, {A_BENCHMARK} each; a"
    " MaskFormer with class embeddings; for both LSeg --set benchmarks.pixels=FOLDER",
    note="Ground-truth masks are named without proposals: by pixel embeddings in both LSeg,"
    " otherwise by the CLIP, which is the original one in the supervised line. That line was"
    " trained on masks of all classes, so it has no unseen ones.",
    published=Published(
        source="Table 1, each with models and training data of its own",
        headings=("system", "backbone", "A-847", "A-150", "PC-59"),
        rows=(
            ("LSeg+", "R-101", "2.5", "13.0", "36.0"),
            ("SimBaseline (ZSSeg)", "R-101c", "-", "15.3", "-"),
            ("OpenSeg", "R-101", "4.0", "15.3", "36.9"),
            ("OVSeg", "R-101c", "7.1", "24.8", "53.3"),
            ("OVSeg", "Swin-B + ViT-L/14", "9.0", "29.6", "55.7"),
        ),
    ),
)
