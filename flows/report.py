"""The end of a run: pairs held against ground truth, the contact sheet, the HTML report.

Part of `ovseg run`; a finished run is reported again at once, since nothing is recomputed.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.config.run import PipelineConfig
from tasks.catalog import publish_catalog
from tasks.progress import bars
from tasks.run import read_manifests
from tasks.scoring import Summary, draw_sheet, judge_pairs, summarise, write_report
from tasks.tracking.records import record_report
from tasks.tracking.tracked_run import track
from tasks.worlds import draw


@flow(
    name="report",
    flow_run_name="report {config.preset} seed {config.seed}",
    task_runner=ThreadPoolTaskRunner(max_workers=1),
    validate_parameters=False,
)
def report(
    config: PipelineConfig,
    mined: dict[str, Path],
    checkpoints: dict[str, Path],
    scored: dict[str, Path],
) -> Summary:
    """Report a run.

    Args:
        config: the run.
        mined: folders of the mining stages by role.
        checkpoints: folder of each trained arm's checkpoint.
        scored: folders of scores by `<benchmark>/<arm>`.
    """
    root = config.root
    with track("report", root=root, uri=config.tracking_uri, join=True) as tracked, bars():
        config, _ = draw(config)
        stages, arms, scores = (read_manifests(each) for each in (mined, checkpoints, scored))
        truth = judge_pairs(config, stages["table"])
        sheet = draw_sheet(config, stages, arms)
        publish_catalog(root, {"truth": truth} if truth else {})
        page = write_report(config, stages, arms, scores, truth)
        summary = summarise(
            config,
            stages,
            scores,
            truth=truth,
            sheet=sheet,
            report=page,
            mlflow=tracked.how_to_open,
        )
        record_report(tracked, config, summary, truth, sheet, page)
    return summary
