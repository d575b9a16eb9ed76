"""Train an open-vocabulary MaskFormer, or pixel embeddings, on a folder of labelled images.

    python -m flows.train_segmentation --data FOLDER --clip NAME --out DIR [--recipe swin]

FOLDER holds `images/`, `labels/` (an index PNG or TIFF an image, same stem; 255 is ignored) and
`classes.txt`, a class a line. The same command again goes on where a killed one stopped. `--out` is
what `--maskformer` takes elsewhere, or `benchmarks.pixels` of an `lseg` recipe; states, results and
mlflow.db are kept in `--root`.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.errors import OvsegError
from ovseg.overrides import parse_setting
from tasks import segmentation
from tasks.console import print_metrics
from tasks.progress import bars
from tasks.tracking import track

ROOT = Path("runs/train-segmentation")


@flow(
    name="train-segmentation",
    task_runner=ThreadPoolTaskRunner(max_workers=1),
    validate_parameters=False,
)
def train_segmentation_flow(
    data: Path,
    out: Path,
    *,
    clip: str = "storybook",
    recipe: str = "swin",
    layout: str = "prepared",
    classes: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    validation: Path | None = None,
    score_images: int = 100,
    root: Path = ROOT,
    tracking: str | None = None,
) -> dict[str, float]:
    """Train, score, hand out and record.

    Args:
        data: labelled folder.
        out: folder of the network, replaced as a whole.
        clip: the CLIP whose text embeddings classify the queries.
        recipe: a key of `ovseg.training.recipes.RECIPES`.
        layout: prepared, or the name of a benchmark whose layout the folder has.
        classes: those trained on; all where empty.
        settings: of the recipe, by name.
        validation: labelled folder to score on; the training images where empty.
        score_images: the first n images are scored; 0 scores none.
        root: folder of states, results and tracking.
        tracking: MLflow server; SQLite in `root` where empty.

    Returns:
        The scores, with a prefix that says on which images.
    """
    config = segmentation.configure(
        data,
        layout=layout,
        classes=classes,
        clip=clip,
        recipe_name=recipe,
        settings=settings or {},
    )
    segmentation.check_out(out)
    with track("train-segmentation", root=root, uri=tracking) as tracked, bars():
        trained = segmentation.train(config, root)
        segmentation.hand_out(trained, out)
        scores: dict[str, float] = {}
        if score_images:
            measured = segmentation.score(
                config, trained, root, data=validation or data, images=score_images
            )
            scores = segmentation.named_scores(measured, validated=validation is not None)
        segmentation.record(tracked, config, trained, scores)
    return scores


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    parser = argparse.ArgumentParser(description="Train a MaskFormer on labelled images.")
    parser.add_argument("--data", type=Path, required=True, help="images/, labels/, classes.txt")
    parser.add_argument("--out", type=Path, required=True, help="replaced as a whole")
    parser.add_argument(
        "--clip", default="storybook", help="storybook, a folder or ARCH/pretrained"
    )
    parser.add_argument("--recipe", default="swin", help=", ".join(segmentation.RECIPES))
    parser.add_argument("--layout", default="prepared", help="prepared, or a benchmark's name")
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], help="train on it; repeatable"
    )
    parser.add_argument("--start", help="MaskFormer whose weights are taken over")
    parser.add_argument("--backbone-file", type=Path, help="weights trained for classification")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--set", action="append", default=[], help="any setting, as precision=bf16; repeatable"
    )
    parser.add_argument("--validation", type=Path, help="folder to score on; --data where empty")
    parser.add_argument("--score-images", type=int, default=100, help="0 scores none")
    parser.add_argument("--root", type=Path, default=ROOT, help="states, results, mlflow.db")
    parser.add_argument("--tracking", help="MLflow server; SQLite in --root by default")
    chosen = parser.parse_args()
    options = {
        name: getattr(chosen, name)
        for name in ("backbone_file", "start", "steps", "device", "seed")
    }
    try:
        settings = dict(parse_setting(text) for text in chosen.set)
    except OvsegError as error:
        parser.error(str(error))
    settings |= {name: value for name, value in options.items() if value is not None}
    return print_metrics(
        lambda: train_segmentation_flow(
            chosen.data,
            chosen.out,
            clip=chosen.clip,
            recipe=chosen.recipe,
            layout=chosen.layout,
            classes=tuple(chosen.classes),
            settings=settings,
            validation=chosen.validation,
            score_images=chosen.score_images,
            root=chosen.root,
            tracking=chosen.tracking,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
