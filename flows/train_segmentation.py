"""Train an open-vocabulary MaskFormer, or pixel embeddings, on a folder of labelled images.

    python -m flows.train_segmentation --data FOLDER --clip NAME --out DIR [--recipe swin]

FOLDER holds `images/`, `labels/` (an index PNG or TIFF per image, same stem; 255 is ignored) and
`classes.txt`, one class per line. After an interruption, the same command resumes. Pass the folder
`--out` to other commands as `--maskformer`, or that of an `lseg` recipe as `benchmarks.pixels`;
states, results and mlflow.db are kept in `--root`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import of_segmentation as arguments

if __name__ == "__main__":
    arguments()  # before Prefect is imported, so that errors appear at once

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from tasks import segmentation
from tasks.console import print_metrics
from tasks.progress import bars
from tasks.tracking.tracked_run import track


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
    root: Path = Path("runs/train-segmentation"),
    tracking: str | None = None,
) -> dict[str, float]:
    """Train, score, publish and record.

    Args:
        data: labelled folder.
        out: folder of the network, replaced as a whole.
        clip: the CLIP whose text embeddings classify the queries.
        recipe: a key of `ovseg.config.registry.RECIPES`.
        layout: prepared, or the name of a benchmark whose layout the folder has.
        classes: classes to train on; defaults to all.
        settings: of the recipe, by name.
        validation: labelled folder to score on; defaults to the training images.
        score_images: number of images to score, from the first; 0 scores none.
        root: folder of states, results and tracking.
        tracking: MLflow server; defaults to SQLite in `root`.

    Returns:
        The scores, with a prefix that names the images.
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
    """Run the flow from the command line; return 2 for errors that the user can fix."""
    parsed = arguments()
    options = {
        name: getattr(parsed, name)
        for name in ("backbone_file", "start", "steps", "device", "seed")
    }
    settings = dict(parsed.set)
    settings |= {name: value for name, value in options.items() if value is not None}
    return print_metrics(
        lambda: train_segmentation_flow(
            parsed.data,
            parsed.out,
            clip=parsed.clip,
            recipe=parsed.recipe,
            layout=parsed.layout,
            classes=tuple(parsed.classes),
            settings=settings,
            validation=parsed.validation,
            score_images=parsed.score_images,
            root=parsed.root,
            tracking=parsed.tracking,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
