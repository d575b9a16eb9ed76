"""Score every arm on every benchmark of a configuration.

    ovseg benchmark --preset storybook

The same proposals, templates and thresholds for all arms: only CLIP's weights differ.
"""

from __future__ import annotations

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.finetune import finetune
from ovseg.config import ScoresConfig
from ovseg.evaluation.evaluator import BENCHMARK
from ovseg.evaluation.scores import SCORES
from ovseg.presets import PipelineConfig
from ovseg.storage import Manifest
from tasks.catalog import publish_catalog
from tasks.progress import bars
from tasks.records import record_benchmark
from tasks.stages import run
from tasks.tracking import track
from tasks.worlds import draw


@flow(name="benchmark", task_runner=ThreadPoolTaskRunner(max_workers=2), validate_parameters=False)
def benchmark(
    config: PipelineConfig, checkpoints: dict[str, Manifest] | None = None
) -> dict[str, Manifest]:
    """Benchmark the arms of a configuration.

    Args:
        config: the whole run; its arms and benchmarks are used.
        checkpoints: checkpoint of each trained arm; trained first where empty.

    Returns:
        The scores' manifest by `<benchmark>/<arm>`.
    """
    root = config.root
    with track("benchmark", root=root, uri=config.tracking_uri, join=True), bars():
        trained = finetune(config) if checkpoints is None else checkpoints
        config = draw(config)
        scored: dict[str, Manifest] = {}
        for setting in config.benchmarks:
            with track(f"benchmark/{setting.benchmark}", root=root) as tracked:
                for arm in config.arms:
                    inputs = {"checkpoint": trained[arm]} if arm in trained else {}
                    label = f"score {arm}"
                    result = run(BENCHMARK, setting, inputs, root, label=label)
                    scores = run(SCORES, ScoresConfig(arm=arm), {"benchmark": result}, root)
                    record_benchmark(tracked, setting, arm, result, scores)
                    publish_catalog(root, {"benchmark": result, "scores": scores})
                    scored[f"{setting.benchmark}/{arm}"] = scores
    return scored
