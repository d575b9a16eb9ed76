"""What a run leaves in Prefect: its names, its artifacts, and that these never fail it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterParentFlowRunId,
)

from ovseg.config.request import resolve
from tasks.prefect_page import show_summary


@pytest.fixture(scope="module")
def shown(small_run):
    """The run as the server knows it: the run, the runs of its steps, its artifacts by flow run."""
    with get_client(sync_client=True) as client:
        named = FlowRunFilter(name=FlowRunFilterName(any_=["storybook seed 0"]))
        runs = client.read_flow_runs(flow_run_filter=named, limit=200)
        first = min(
            (run for run in runs if run.parameters.get("root") == str(small_run[0])),
            key=lambda run: run.created,
        )
        children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[first.id]))
        steps = client.read_flow_runs(flow_run_filter=children)
        artifacts = {
            run.id: client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            )
            for run in (first, *steps)
        }
    return first, steps, artifacts


def test_steps_are_named(shown):
    _, steps, _ = shown
    names = {step.name for step in steps}
    assert {f"{step} storybook seed 0" for step in ("mine", "finetune", "benchmark", "report")} <= (
        names
    )


def test_the_run_shows_its_numbers(shown, small_run):
    run, _, artifacts = shown
    _, summary = small_run
    by_key = {artifact.key: artifact for artifact in artifacts[run.id] if artifact.key}
    assert set(by_key) == {"storybook-scores", "storybook-summary"}
    unnamed = [artifact for artifact in artifacts[run.id] if not artifact.key]
    assert {artifact.type for artifact in unnamed} == {"progress"}
    assert all(artifact.description.startswith("draw scenes") for artifact in unnamed)
    scores = json.loads(by_key["storybook-scores"].data)
    best = summary.scores["storybook"]["both"]["miou_union"]
    assert scores[-1]["mIoU all"] == f"{100 * best:.1f}"
    text = by_key["storybook-summary"].data
    assert "original CLIP" in text and "![Contact sheet](data:image/webp;base64," in text


def test_mining_shows_its_funnel_and_its_progress(shown, small):
    _, steps, artifacts = shown
    (mine,) = [step for step in steps if step.name.startswith("mine")]
    kinds = {artifact.type for artifact in artifacts[mine.id]}
    assert kinds == {"table", "progress"}
    (funnel,) = [artifact for artifact in artifacts[mine.id] if artifact.type == "table"]
    rows = {row["step"]: row for row in json.loads(funnel.data)}
    assert rows["images"]["found"] == small["data.mining_world.scenes"]
    assert 0 <= rows["pairs"]["kept, %"] <= 100
    progress = {a.description: a.data for a in artifacts[mine.id] if a.type == "progress"}
    assert progress["find nouns: 24 of 24"] == 100.0


def test_what_cannot_be_shown_does_not_fail_the_run(small_run, small):
    root, summary = small_run
    config = resolve("storybook", root=root, overrides=small)
    gone = summary.model_copy(update={"sheet": Path("/nowhere/contact-sheet.png")})

    @flow
    def shows() -> str:
        show_summary(config, gone, SimpleNamespace(how_to_open="nowhere"))
        return "went on"

    assert shows() == "went on"
