"""One preset over several seeds: a whole run for each, then a comparison of the models.

    ovseg run --preset storybook --seeds 3

Each seed's results are in `<root>/seed-<n>`, the comparison in `<root>/study`, all in one MLflow
store. After an interruption, the same command resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.pipeline import whole_chain
from ovseg.config.resolved import Preset, resolved_seeds
from ovseg.stages.manifest import Manifest
from tasks.progress import bars
from tasks.steps import step
from tasks.studies import announce, compare, describe, record_study
from tasks.tracking.tracked_run import track

run_seed = step("pipeline", title="{preset} seed {seed}")(whole_chain)
"""One seed's run, as a subflow."""


@flow(name="seeds", flow_run_name="{preset}, {seeds} seeds")
def run_seeds(
    preset: Preset = "storybook",
    seeds: int = 3,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Manifest]:
    """Run a preset with seeds 0 to seeds - 1 and compare its models over them.

    Args:
        preset: What to run, as in the flow pipeline.
        seeds: Number of seeds. In the storybook a seed also chooses the unseen classes and the
            matching MaskFormer.
        root: Folder of all results, with one folder per seed; defaults to the preset's own.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's.
        images: Folder or URL of the images that the captions name; needs captions.
        overrides: Settings to replace, by the dotted names that `ovseg settings` lists.

    Returns:
        The study of each benchmark.
    """
    configs = resolved_seeds(
        preset, seeds=seeds, root=root, captions=captions, images=images, overrides=overrides
    )
    home, uri = configs[0].root.parent, configs[0].tracking.uri
    with track(f"{preset}, seeds 0 to {seeds - 1}", root=home, uri=uri) as tracked:
        describe(tracked, configs)
        for config in configs:
            announce(config)
            run_seed(config.changed("tracking", uri=tracked.uri))
        with bars():
            studies = compare(configs, home)
        for study in studies.values():
            record_study(tracked, study)
    return studies
