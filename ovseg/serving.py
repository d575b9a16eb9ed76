"""The registered model: the segmentor as an MLflow pyfunc, loaded from code and safetensors.

    model = mlflow.pyfunc.load_model("models:/ovseg-storybook@both")
    image = base64.b64encode(Path("photo.jpg").read_bytes()).decode()
    model.predict(pandas.DataFrame({"image": [image], "classes": ["moon, tree, sea"]}))

Nothing is pickled: MLflow runs this file, and everything that the settings need is an artifact next
to it (`ovseg.models.packaged`). `ovseg.models.served_requests` defines which requests are accepted.
This is the only module of the library that may import mlflow.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from ovseg.files.escaping import terminal_text
from ovseg.models.served_requests import Limits, Question, RequestError, segments

if TYPE_CHECKING:
    import pandas as pd

    from ovseg.data.images import ImageArray

logger = logging.getLogger("ovseg.serving")
FAILED = "the server failed to answer this row; its log says why"
WARM_UP = ((64, 64, 3), ("thing",))
"""The image and the classes of the warm-up request."""


class TooLarge(MlflowException):  # type: ignore[misc]  # mlflow is not typed
    """A request beyond a limit; MLflow has no error code for HTTP status 413."""

    def get_http_status_code(self) -> int:
        """Return 413, Content Too Large."""
        return 413


class SegmentorModel(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Labels each image with the class names of its row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the networks and answer one request, so that a ready server responds without delay.

        Raises:
            OvsegError: if a limit in the environment is invalid or a model does not load; the
                server does not start then.
        """
        from ovseg.models.packaged import restored

        self.limits = Limits.of_environment(os.environ)
        self.config, self.regions = restored(context.artifacts)
        self.computing = threading.Lock()  # the server has many threads, but memory for one image
        _keep_stack_traces()
        shape, classes = WARM_UP
        self._labels(np.zeros(shape, dtype=np.uint8), Question(image="", classes=classes))

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Segment images.

        Args:
            context: unused; `load_context` has already read the artifacts.
            model_input: columns `image` (the file's bytes in base64, or a path below the folder of
                `OVSEG_SERVE_IMAGES`) and `classes` (a list of names, or a string of comma-separated
                names).
            params: unused.

        Returns:
            One dict per image: `size` [H, W]; `segments`, a list of {class, area_fraction, counts}
            with compressed COCO RLE counts for the classes that occur; and `error`, None. If a row
            cannot be answered, the first two are empty and `error` says why.

        Raises:
            MlflowException: if no row can be answered or the request exceeds a limit; the HTTP
                status is 400, 413, or 500 for a server failure.
        """
        try:
            questions = self.limits.questions(model_input.to_dict("records"))
        except RequestError as error:
            raise _refusal([error]) from None
        answers, errors = [], []
        for question in questions:
            try:
                answers.append(self._answer(question))
            except RequestError as error:
                errors.append(error)
                answers.append({"size": [], "segments": [], "error": str(error)})
        if errors and len(errors) == len(answers):
            raise _refusal(errors)
        return answers

    def _answer(self, question: Question | RequestError) -> dict[str, Any]:
        if isinstance(question, RequestError):
            raise question
        try:
            with self.computing:
                labels = self._labels(self.limits.image(question.image), question)
        except RequestError:
            raise
        except Exception:  # keep paths of this machine in its own log
            logger.error("a row was not answered: %s", terminal_text(traceback.format_exc()))
            raise RequestError(FAILED, status=500) from None
        parts = segments(labels, question.classes)
        return {"size": list(labels.shape), "segments": parts, "error": None}

    def _labels(self, image: ImageArray, question: Question) -> Any:
        """Return the label map `(H, W)`: indices into the question's names."""
        from ovseg.evaluation.splits import HEADLINE, benchmark_splits
        from ovseg.models.build import load_segmentor

        names = question.names
        seen = benchmark_splits(self.config, names).get(HEADLINE, ())
        segmentor = load_segmentor(
            self.config, names, clip=self.config.clip, seen=seen, regions=self.regions
        )
        return segmentor.segment(image).labels


def _refusal(errors: Sequence[RequestError]) -> MlflowException:
    """Return the exception for a request in which no row could be answered."""
    worst = max(errors, key=lambda error: error.status)
    if worst.status == 413:
        return TooLarge(str(worst), error_code=INVALID_PARAMETER_VALUE)
    code = INTERNAL_ERROR if worst.status == 500 else INVALID_PARAMETER_VALUE
    return MlflowException(str(worst), error_code=code)


def _keep_stack_traces() -> None:
    """Keep stack traces of unparsable requests in the log, out of the server's replies."""
    from mlflow.pyfunc import scoring_server

    handle = getattr(scoring_server, "_handle_serving_error", None)
    if handle is not None and not isinstance(handle, functools.partial):
        quiet = functools.partial(handle, include_traceback=False)
        scoring_server._handle_serving_error = quiet


mlflow.models.set_model(SegmentorModel())
