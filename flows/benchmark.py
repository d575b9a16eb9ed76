"""Score every arm on every benchmark of a configuration.

    ovseg benchmark --preset storybook

The same proposals, templates and thresholds for all arms: only CLIP's weights differ.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.finetune import finetune
from flows.mine import mine
from ovseg.config.run import PipelineConfig
from ovseg.stages.manifest import Manifest
from tasks.catalog import publish_catalog
from tasks.mining import by_source, with_contexts
from tasks.progress import bars
from tasks.run import read_manifests
from tasks.scoring import remember, score
from tasks.tracking.records import record_benchmark, record_scores
from tasks.tracking.tracked_run import track
from tasks.worlds import draw, draw_scored


@flow(
    name="benchmark",
    flow_run_name="benchmark {config.preset} seed {config.seed}",
    task_runner=ThreadPoolTaskRunner(max_workers=2),
    validate_parameters=False,
)
def benchmark(
    config: PipelineConfig,
    checkpoints: dict[str, Path] | None = None,
    tables: list[Path] | None = None,
) -> dict[str, Manifest]:
    """Benchmark the arms of a configuration.

    Args:
        config: the whole run; its arms and benchmarks are used.
        checkpoints: folder of each trained arm's checkpoint; trained first where empty.
        tables: folders of published pair tables, for benchmarks that retrieve mined regions; mined
            first where empty.

    Returns:
        The scores' manifest by `<benchmark>/<arm>`.
    """
    uri, scored = config.tracking_uri, {}
    with track("benchmark", root=config.root, uri=uri, join=True), bars():
        if checkpoints is None:  # nothing is mined for arms that train nothing
            trained = finetune(config) if any(config.arms.values()) else {}
        else:
            trained = read_manifests(checkpoints)
        remembered = any(setting.retrieval_weight for setting in config.benchmarks)
        pairs = [Manifest.read(folder) for folder in tables or ()]
        if remembered and not pairs:
            pairs = [mine(each)["table"] for each in by_source(config)]
        config, _ = draw(config) if remembered else draw_scored(config)
        config = with_contexts(config)
        for setting in config.benchmarks:
            name = setting.benchmark
            with track(f"benchmark/{name}", root=config.root, uri=uri) as tracked:
                for arm in config.arms:
                    checkpoint = trained.get(arm)
                    regions = remember(config, setting, arm, checkpoint, pairs)
                    result, scores = score(config, setting, arm, checkpoint, regions)
                    publish_catalog(config.root, {"benchmark": result, "scores": scores})
                    parts = {"checkpoint": checkpoint, "regions": regions}
                    record_benchmark(tracked, config, setting, arm, parts, result, scores)
                    scored[f"{name}/{arm}"] = scores
                record_scores(tracked, config, setting, scored)
    return scored
