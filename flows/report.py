"""The end of a run: pairs judged by ground truth, the contact sheet, the HTML report.

Part of `ovseg run`; repeating it for a finished run is fast, since nothing is recomputed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovseg.stages.manifest import Manifest
from tasks.catalog import publish_catalog
from tasks.progress import bars
from tasks.scoring import Summary, judge_and_draw, summarize, write_report
from tasks.steps import step
from tasks.tracking.records import record_report
from tasks.tracking.tracked_run import track
from tasks.worlds import Drawn


@step("report")
def report(
    run: Drawn,
    mined: Mapping[str, Manifest],
    checkpoints: Mapping[str, Manifest],
    scored: Mapping[str, Manifest],
) -> Summary:
    """Report a run.

    Args:
        run: the run.
        mined: manifests of the mining stages by role.
        checkpoints: of each trained arm.
        scored: scores by `<benchmark>/<arm>`.
    """
    config = run.config
    root, uri = config.root, config.tracking.uri
    with track("report", root=root, uri=uri, join=True) as tracked, bars():
        truth, sheet = judge_and_draw(config, mined, checkpoints)
        publish_catalog(root, {"truth": truth} if truth else {})
        page = write_report(config, mined, checkpoints, scored, truth)
        summary = summarize(
            config,
            mined,
            scored,
            truth=truth,
            sheet=sheet,
            report=page,
            mlflow=tracked.how_to_open,
        )
        record_report(tracked, config, summary, truth, sheet, page)
    return summary
