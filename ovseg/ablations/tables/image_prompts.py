"""Ablations of image prompts: mask prompts against visual ones, and prompts in pixels.

`ovseg.ablations.tables.training` explains published figures and costs.
"""

from __future__ import annotations

from ovseg.ablations.cells import Cell, Published, Settings, Table
from ovseg.ablations.tables.training import A_BENCHMARK, A_TRAINING, FT, MPT, ORIGINAL

VISUAL = Table(
    title="Mask prompts against deep visual prompts (Table 7)",
    question="Do prompts help because they replace blank patches, or as such?",
    cells={
        "original": ORIGINAL,
        "mpt": Cell(title="mask prompts", trains=(MPT,), repeated=True),
        "visual": Cell(title="deep visual prompts", trains=({"trains": "visual_prompts"},)),
        "visual-few": Cell(
            title="deep visual prompts, 8 tokens, a quarter of the rate",
            trains=({"trains": "visual_prompts", "visual_tokens": 8, "learning_rate": 5e-3},),
            presets=("storybook",),
        ),
    },
    reference="original",
    expect="A-150: 26.5 by mask prompts, 25.5 by 50 visual tokens in 6 blocks, for 40 % more"
    " computing",
    cost=f"twice {A_TRAINING}; three benchmarks, {A_BENCHMARK} each",
    published=Published(
        source="Table 7, A-150",
        headings=("prompts", "mIoU", "computing"),
        rows=(
            ("none: original CLIP", "21.8", ""),
            ("mask prompts", "26.5", "+0 %"),
            ("deep visual prompts (50 tokens, depth 6)", "25.5", "+40 %"),
        ),
    ),
    note="The 50 tokens are trained at the mask prompts' rate, which was chosen only for those.",
)

_SHOWN: Settings = {"region": "box", "pixel_background": 0.3}
_PIXELS: Settings = {"trains": "pixel_prompts", **_SHOWN}
_BOXES: Settings = {"benchmarks.region": "box"}
_FT: Settings = {**FT, "region": "box"}


def _pixel(title: str, *trains: Settings) -> Cell:
    return Cell(title=title, settings=_BOXES, trains=trains)


PIXELS = Table(
    title="Prompts in pixels: an image laid over the region, the background faded",
    question="Can prompts in pixels do what mask prompts do in tokens, alone or together with"
    " them?",
    cells={
        "original": Cell(title="original, box"),
        "faded": Cell(
            title="original, box faded to 0.3",
            settings={"benchmarks.region": "attenuated_box", "benchmarks.background": 0.3},
        ),
        "image-faded": Cell(
            title="original, image faded to 0.3",
            settings={"benchmarks.region": "attenuated_image", "benchmarks.background": 0.3},
        ),
        "pixel": _pixel("pixel prompts", _PIXELS),
        "pixel-image": Cell(
            title="pixel prompts, whole image",
            settings={"benchmarks.region": "image"},
            trains=({**_PIXELS, "region": "image"},),
        ),
        "pixel-learned": _pixel(
            "pixel prompts, fade learned", {**_PIXELS, "learn_background": True}
        ),
        "mask-and-pixel": _pixel(
            "mask and pixel prompts", {**_PIXELS, "trains": "mask_and_pixel_prompts"}
        ),
        "ft-pixel": _pixel("fine-tuned, then pixel prompts", _FT, _PIXELS),
        "pixel-ft": _pixel("pixel prompts, then fine-tuned", _PIXELS, _FT),
        "joint-pixel": _pixel("both at once", {**_PIXELS, "trains": "joint_pixel_prompts"}),
        "mpt": Cell(title="mask prompts, mean fill", trains=(MPT,)),
    },
    reference="original",
    expect="not published",
    cost=f"nine phases, each {A_TRAINING}; eleven benchmarks, {A_BENCHMARK} each",
    note="Pixel prompts are trained and scored on plain boxes, or the whole image, whose background"
    " they fade.",
)
