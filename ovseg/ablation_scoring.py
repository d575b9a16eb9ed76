"""Ablations of how regions are named: the ensemble's branches, the crops, whole systems by name.

What is called published, and what costs are, stands in `ovseg.ablation_training`.
"""

from __future__ import annotations

from typing import Any

from ovseg.ablation_training import A_BENCHMARK, A_TRAINING, FT, MPT
from ovseg.ablations import Cell, Published, Settings, Table, above
from ovseg.report_config import Claim
from ovseg.systems import SYSTEMS, System


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
    cost=f"twice {A_TRAINING}; five benchmarks, {A_BENCHMARK} each",
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
            ways=(above("adapted-both", "maskformer", "adapted-clip", metric="miou_union"),),
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
            repeated=name in ("mean", "box"),
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
            note="On photographs the paper's own oracle says the reverse of plain boxes (13.8"
            " against 20.1 mIoU): a box shows what lies beside the mask as well. What it calls the"
            " bottleneck is how far both are from right masks with right names.",
        ),
        Claim(
            name="adapted-to-crops",
            text="Adaptation is to masked crops: it raises the naming of masks shown so",
            ways=(above("adapted-mean", "original-mean", metric="mask_acc"),),
        ),
    ),
)


def _system(name: str, system: System) -> Cell:
    """A system as a cell, with the arm that its name stands for, else with the adapted CLIP."""
    arms = system.settings.get("arms")
    (trains,) = [(FT, MPT)] if arms is None else arms.values()
    return Cell(
        title=f"{name}: {system.title}",
        settings={"benchmarks.system": name},
        trains=tuple(trains),
        repeated=name == "ovseg",
    )


COMPARED = Table(
    title="Systems of the field, by the same proposals and the same benchmark",
    question="How far does what others do get with the same parts?",
    cells={name: _system(name, system) for name, system in SYSTEMS.items()},
    reference="ovseg",
    expect="A-150: SimBaseline 15.3 (R-101c, COCO-Stuff-156), OVSeg 29.6; each by its own models",
    cost=f"{A_TRAINING} for each phase of ovseg; a benchmark a system, {A_BENCHMARK} each",
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
