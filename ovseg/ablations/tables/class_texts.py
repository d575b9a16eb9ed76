"""Ablations of the texts of classes: templates, contexts, learned prompts, synonyms, relations.

`ovseg.ablations.tables.training` explains published figures and costs.
"""

from __future__ import annotations

from ovseg.ablations.cells import ALL_CLASSES, Cell, Settings, Table, above
from ovseg.ablations.tables.training import A_BENCHMARK, A_TRAINING, FT, MARGIN
from ovseg.config.reporting import Claim


def _texts(
    title: str,
    *,
    repeated: bool = False,
    trains: tuple[Settings, ...] = (),
    presets: tuple[str, ...] = (),
    **settings: object,
) -> Cell:
    named = {f"benchmarks.{name}": value for name, value in settings.items()}
    return Cell(title=title, settings=named, trains=trains, repeated=repeated, presets=presets)


_LEARNED: Settings = {"trains": "text_prompts", "template": "a photo of a {}", "epochs": 3}


TEXTS = Table(
    title="Texts of a class for CLIP: prompt strategies",
    question="Do ensembles beat a single template, and learned prompts written ones?",
    cells={
        "single": _texts("a photo of a", repeated=True, templates="single"),
        "scene": _texts("3 templates", templates="scene"),
        "vild": _texts("14 of ViLD", repeated=True, templates="vild"),
        "imagenet": _texts("80 of ImageNet", templates="imagenet"),
        "contextual": _texts("attributes and places", prompting="contextual"),
        "mined": _texts("contexts of the captions", prompting="mined"),
        "learned": _texts("learned", repeated=True, trains=(_LEARNED,), prompting="learned"),
        "learned-classes": _texts(
            "learned, by noun",
            trains=({**_LEARNED, "trains": "class_text_prompts", "learning_rate": 2e-3},),
            prompting="learned",
        ),
        "synonyms": _texts("14 of ViLD, best of synonyms", synonyms=True),
        "relations": _texts("14 of ViLD, classes lend", relations=0.2),
        "smoothed": _texts(
            "14 of ViLD, trained on smoothed targets",
            trains=({**FT, "loss": "distinct", "relation_smoothing": 0.1},),
        ),
        "ft": _texts("14 of ViLD, trained on plain targets", trains=({**FT, "loss": "distinct"},)),
        "single-period": _texts(
            "a photo of a, with a period", templates="single", period=True, presets=("storybook",)
        ),
        "vild-period": _texts("14 of ViLD, with periods", period=True, presets=("storybook",)),
    },
    miniature={"benchmarks.period": False},
    reference="single",
    expect="not published; the paper uses the 14 templates of ViLD throughout",
    cost=f"four times {A_TRAINING}; twelve benchmarks, {A_BENCHMARK} each",
    note="All cells use the original CLIP, except the two that say what they were trained on. The"
    " storybook's captions have no period, and one in a template confuses its compact CLIP:"
    " there, templates have no period, except in the two cells that say so.",
    claims=(
        Claim(
            name="ensembles",
            text="An ensemble of templates is at least as good as a single one (within a point)",
            ways=(above("vild", "single", metric=ALL_CLASSES, margin=MARGIN),),
        ),
        Claim(
            name="learned-prompts",
            text="Learned prompts are at least as good as fixed templates (within a point)",
            ways=(above("learned", "single", "vild", metric=ALL_CLASSES, margin=MARGIN),),
        ),
    ),
)
