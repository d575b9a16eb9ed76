"""The end of a run: pairs held against ground truth, the contact sheet, the summary.

Part of `ovseg run`; a finished run is reported again at once, since nothing is recomputed.
"""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.analysis.contact_sheet import SHEET, sheet_inputs
from ovseg.analysis.summary import Summary, markdown, summarise
from ovseg.config import SheetConfig, TruthConfig
from ovseg.evaluation.pair_truth import TRUTH
from ovseg.presets import PipelineConfig
from ovseg.storage import Manifest
from tasks.catalog import publish_catalog
from tasks.progress import bars
from tasks.records import record_report
from tasks.stages import run
from tasks.tracking import track
from tasks.worlds import draw


@flow(name="report", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=False)
def report(
    config: PipelineConfig,
    mined: dict[str, Manifest],
    checkpoints: dict[str, Manifest],
    scored: dict[str, Manifest],
) -> Summary:
    """Report a run.

    Args:
        config: the run.
        mined: manifests of the mining stages by role.
        checkpoints: manifest of each trained arm's checkpoint.
        scored: manifests of scores by `<benchmark>/<arm>`.
    """
    root = config.root
    with track("report", root=root, uri=config.tracking_uri, join=True) as tracked, bars():
        config = draw(config)
        truth = None
        if config.panoptic is not None:
            judged = TruthConfig(panoptic=config.panoptic)
            truth = run(TRUTH, judged, {"table": mined["table"]}, root, label="judge pairs")
            publish_catalog(root, {"truth": truth})
        inputs = sheet_inputs(mined, checkpoints)
        setting = SheetConfig(
            image_root=config.images.image_root,
            benchmark=config.benchmarks[0] if config.benchmarks else None,
        )
        sheet = run(SHEET, setting, inputs, root, label="contact sheet")
        summary = summarise(config, mined, scored, truth=truth, sheet=sheet)
        create_markdown_artifact(markdown(summary), key="summary", description="What the run found")
        record_report(tracked, summary, truth, sheet)
    return summary
