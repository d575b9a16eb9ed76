"""Ablations of the texts of classes: templates, contexts, learned prompts, synonyms, relations.

What is called published, and what costs are, stands in `ovseg.ablation_training`.
"""

from __future__ import annotations

from ovseg.ablation_training import A_BENCHMARK, A_TRAINING, FT, MARGIN
from ovseg.ablations import Cell, Settings, Table, above
from ovseg.report_config import Claim


def _texts(
    title: str, *, repeated: bool = False, then: tuple[Settings, ...] = (), **settings: object
) -> Cell:
    named = {f"benchmarks.{name}": value for name, value in settings.items()}
    return Cell(title=title, settings=named, trains=(FT, *then), repeated=repeated)


TEXTS = Table(
    title="What CLIP reads of a class: prompt strategies",
    question="Do ensembles beat a single template, and learned prompts those that are written?",
    cells={
        "single": _texts("a photo of a", repeated=True, templates="single"),
        "scene": _texts("3 templates", templates="scene"),
        "vild": _texts("14 of ViLD", repeated=True, templates="vild"),
        "imagenet": _texts("80 of ImageNet", templates="imagenet"),
        "contextual": _texts("attributes and places", prompting="contextual"),
        "mined": _texts("contexts of the captions", prompting="mined"),
        "learned": _texts(
            "learned", repeated=True, then=({"trains": "text_prompts"},), prompting="learned"
        ),
        "learned-classes": _texts(
            "learned, by noun", then=({"trains": "class_text_prompts"},), prompting="learned"
        ),
        "synonyms": _texts("14 of ViLD, best of synonyms", synonyms=True),
        "relations": _texts("14 of ViLD, classes lend", relations=0.2),
    },
    reference="single",
    expect="not published; the paper uses the 14 templates of ViLD throughout",
    cost=f"{A_TRAINING}; three phases in all; ten benchmarks, {A_BENCHMARK} each",
    claims=(
        Claim(
            name="ensembles",
            text="An ensemble of templates is at least as good as a single one (within a point)",
            ways=(above("vild", "single", margin=MARGIN),),
        ),
        Claim(
            name="learned-prompts",
            text="Learned prompts are at least as good as fixed templates (within a point)",
            ways=(above("learned", "single", "vild", margin=MARGIN),),
        ),
    ),
)
