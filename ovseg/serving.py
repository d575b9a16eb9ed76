"""The registered model: the segmentor as an MLflow pyfunc, loaded from code and safetensors.

    model = mlflow.pyfunc.load_model("models:/ovseg-storybook@both")
    model.predict(pandas.DataFrame({"image": ["photo.jpg"], "classes": ["moon, tree, sea"]}))

Nothing is pickled: MLflow runs this file, and all that the settings need are artifacts beside it
(`ovseg.models.served`). The one module of the library that may import mlflow.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from pycocotools import mask as coco_mask

from ovseg.data.images import ImageError, decode, read_image
from ovseg.errors import OvsegError

if TYPE_CHECKING:
    import pandas as pd

    from ovseg.data.images import ImageArray


class SegmentorModel(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Labels images with the class names that come with them."""

    def load_context(self, context: PythonModelContext) -> None:
        """Remember where everything is; weights are loaded with the first image."""
        from ovseg.models.served import restored

        self.config, self.regions = restored(context.artifacts)

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Segment images.

        Args:
            context: unused; the artifacts are known since `load_context`.
            model_input: columns `image` (a path, or the file's bytes in base64) and `classes`
                (names separated by commas).
            params: unused.

        Returns:
            One dict an image: `size` [H, W] and `segments`, a list of {class, area_fraction,
            counts} with compressed COCO RLE counts, for the classes that occur.

        Raises:
            OvsegError: for an image that cannot be read, or no classes.
        """
        from ovseg.evaluation.splits import HEADLINE, benchmark_splits
        from ovseg.models.systems import load_segmentor

        config, answers = self.config, []
        for row in model_input.to_dict("records"):
            classes = [name.strip() for name in str(row["classes"]).split(",") if name.strip()]
            if not classes:
                raise OvsegError("no classes: give names separated by commas")
            seen = benchmark_splits(config, classes).get(HEADLINE, ())
            segmentor = load_segmentor(
                config, classes, clip=config.clip, seen=seen, regions=self.regions
            )
            labels = segmentor.segment(_read(str(row["image"]))).labels
            segments = [
                {
                    "class": name,
                    "area_fraction": float((labels == index).mean()),
                    "counts": coco_mask.encode(
                        np.asfortranarray((labels == index).astype(np.uint8))
                    )["counts"].decode("ascii"),
                }
                for index, name in enumerate(classes)
                if (labels == index).any()
            ]
            answers.append({"size": list(labels.shape), "segments": segments})
        return answers


def _read(image: str) -> ImageArray:
    """An image (H, W, 3) uint8 from a path, or from a file's bytes in base64."""
    try:
        if _is_file(image):
            return read_image(Path(image))
        return decode(base64.b64decode("".join(image.split()), validate=True))
    except (ImageError, ValueError) as error:
        raise OvsegError(
            f"image {image[:60]!r} is neither an image file's path nor its bytes in base64: {error}"
        ) from error


def _is_file(image: str) -> bool:
    try:
        return len(image) < 4096 and Path(image).is_file()
    except (OSError, ValueError):
        return False  # base64 makes long names, which some systems refuse to look up


mlflow.models.set_model(SegmentorModel())
