"""The registered model: the segmentor as an MLflow pyfunc, loaded from code and safetensors.

    model = mlflow.pyfunc.load_model("models:/ovseg-storybook@both")
    image = base64.b64encode(Path("photo.jpg").read_bytes()).decode()
    model.predict(pandas.DataFrame({"image": [image], "classes": ["moon, tree, sea"]}))

Nothing is pickled: MLflow runs this file, and all that the settings need are artifacts beside it
(`ovseg.models.served`). What may be asked is in `ovseg.models.served_requests`. The one module of
the library that may import mlflow.
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

from ovseg.models.served_requests import Limits, Question, RequestError, segments
from ovseg.terminal_text import terminal_text

if TYPE_CHECKING:
    import pandas as pd

    from ovseg.data.images import ImageArray

logger = logging.getLogger("ovseg.serving")
FAILED = "the server failed to answer this row; its log says why"
WARM_UP = ((64, 64, 3), ("thing",))
"""The image and the classes of the first answer, which nobody waits for."""


class TooLarge(MlflowException):  # type: ignore[misc]  # mlflow is not typed
    """What is beyond a limit: MLflow has no code of its own for HTTP's 413."""

    def get_http_status_code(self) -> int:
        """413, Content Too Large."""
        return 413


class SegmentorModel(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Labels images with the class names that come with them."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the networks and answer once, so that a server that is ready answers at once.

        Raises:
            OvsegError: for limits in the environment that are not valid, or models that do not
                load; a server does not start then.
        """
        from ovseg.models.served import restored

        self.limits = Limits.of_environment(os.environ)
        self.config, self.regions = restored(context.artifacts)
        self.computing = threading.Lock()  # the server has many threads: memory is for one image
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
            context: unused; the artifacts are known since `load_context`.
            model_input: columns `image` (the file's bytes in base64, or a path below the folder
                of `OVSEG_SERVE_IMAGES`) and `classes` (a list of names, or a text of names
                separated by commas).
            params: unused.

        Returns:
            One dict an image: `size` [H, W], `segments`, a list of {class, area_fraction, counts}
            with compressed COCO RLE counts, for the classes that occur, and `error`, None. Of a
            row that cannot be answered the first two are empty and `error` says why.

        Raises:
            MlflowException: not one row can be answered, or the request is beyond a limit; with
                the HTTP status 400, 413, or 500 for a failure of the server.
        """
        try:
            asked = self.limits.questions(model_input.to_dict("records"))
        except RequestError as error:
            raise _refusal([error]) from None
        answers, errors = [], []
        for question in asked:
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
        except Exception:  # paths of this machine stay in its log
            logger.error("a row was not answered: %s", terminal_text(traceback.format_exc()))
            raise RequestError(FAILED, status=500) from None
        found = segments(labels, question.classes)
        return {"size": list(labels.shape), "segments": found, "error": None}

    def _labels(self, image: ImageArray, question: Question) -> Any:
        """The `(H, W)` indices of the question's names."""
        from ovseg.evaluation.splits import HEADLINE, benchmark_splits
        from ovseg.models.systems import load_segmentor

        names = question.names
        seen = benchmark_splits(self.config, names).get(HEADLINE, ())
        segmentor = load_segmentor(
            self.config, names, clip=self.config.clip, seen=seen, regions=self.regions
        )
        return segmentor.segment(image).labels


def _refusal(errors: Sequence[RequestError]) -> MlflowException:
    """The answer to a request without one row that could be answered."""
    worst = max(errors, key=lambda error: error.status)
    if worst.status == 413:
        return TooLarge(str(worst), error_code=INVALID_PARAMETER_VALUE)
    code = INTERNAL_ERROR if worst.status == 500 else INVALID_PARAMETER_VALUE
    return MlflowException(str(worst), error_code=code)


def _keep_stack_traces() -> None:
    """MLflow's server answers what it cannot parse with its stack trace: keep it to the log."""
    from mlflow.pyfunc import scoring_server

    handle = getattr(scoring_server, "_handle_serving_error", None)
    if handle is not None and not isinstance(handle, functools.partial):
        quiet = functools.partial(handle, include_traceback=False)
        scoring_server._handle_serving_error = quiet


mlflow.models.set_model(SegmentorModel())
