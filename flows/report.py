"""The end of a run: pairs held against ground truth, the contact sheet, the summary.

Part of `ovseg run`; a finished run is reported again at once, since nothing is recomputed.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.settings import PipelineConfig
from tasks.catalog import publish_catalog
from tasks.progress import bars
from tasks.records import record_report
from tasks.scoring import Summary, draw_sheet, judge_pairs, summarise
from tasks.stages import read_manifests
from tasks.tracking import track
from tasks.worlds import draw


@flow(name="report", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=False)
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
        stages = read_manifests(mined)
        truth = judge_pairs(config, stages["table"])
        sheet = draw_sheet(config, stages, read_manifests(checkpoints))
        publish_catalog(root, {"truth": truth} if truth else {})
        summary = summarise(config, stages, read_manifests(scored), truth=truth, sheet=sheet)
        record_report(tracked, summary, truth, sheet)
    return summary
