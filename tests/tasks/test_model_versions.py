"""Versions of a registered model: one a content, none of what cannot be served."""

from recorded import client_of, problems, runs_by_name

from ovseg.config.scoring import BenchmarkConfig
from tasks.tracking.tracked_run import track


def test_a_model_is_registered_once_a_content(root):
    root.mkdir()
    clips = {}
    for name in ("one", "two"):
        clips[name] = root / name
        clips[name].mkdir()
        (clips[name] / "model.safetensors").write_bytes(name.encode())
    plain, boxes = BenchmarkConfig(), BenchmarkConfig(region="box")
    elsewhere = BenchmarkConfig(benchmark="toy", root=root, device="cpu", limit=3)
    asked = {"headline": ["miou_union"], "name": "ovseg-toy"}
    with track("run", root=root), track("finetune", root=root) as run:
        for clip, setting, arm in (
            ("one", plain, "prompts"),
            ("one", elsewhere, "prompts"),  # the same model
            ("two", plain, "prompts"),
            ("one", boxes, "boxes"),  # the same weights, asked otherwise
            ("one", plain, "both"),
        ):
            run.model("ovseg-toy", clip=clips[clip], settings=setting, arm=arm)
        for setting, score in (
            (plain, 0.25),
            (boxes.model_copy(update={"benchmark": "toy"}), 0.5),
            (elsewhere, 0.625),  # the first images only
            (BenchmarkConfig(oracle="gt_labels"), 0.75),
            (BenchmarkConfig(region="zero"), 0.875),  # no version segments so
            (BenchmarkConfig(benchmark="voc-20", ensemble_weight=0.45), 0.125),  # its own weight
        ):
            run.scores({"miou_union": score}, setting=setting, clip=clips["one"], **asked)
        run.metrics({"after": 1})
    assert problems(root) == []
    client = client_of(root)
    versions = client.search_model_versions("name='ovseg-toy'")
    assert {int(version.version) for version in versions} == {1, 2, 3}
    assert len({version.tags["content"] for version in versions}) == 3
    aliases = {
        arm: int(client.get_model_version_by_alias("ovseg-toy", arm).version)
        for arm in ("prompts", "boxes", "both")
    }
    assert aliases == {"prompts": 2, "boxes": 3, "both": 1}
    assert {arm: int(model.version) for arm, model in run.registered.items()} == aliases
    shown = {
        int(version.version): {key: text for key, text in version.tags.items() if "/" in key}
        for version in versions
    }
    assert shown == {
        1: {"storybook/miou_union": "0.250000", "voc-20/miou_union": "0.125000"},
        2: {},
        3: {"toy/miou_union": "0.500000"},
    }
    page = client.get_model_version("ovseg-toy", "1").description
    assert "| storybook | miou_union | 25.0 |" in page
    assert "| voc-20 (ensemble weight 0.45) | miou_union | 12.5 |" in page
    logged = runs_by_name(root)["finetune"]
    assert logged.info.status == "FINISHED" and logged.data.metrics["after"] == 1.0
    assert logged.data.metrics["toy/miou_union"] == 0.625  # the run has them all


def test_what_cannot_be_served_makes_no_version_and_says_why(root, caplog):
    root.mkdir()
    (root / "model.safetensors").write_bytes(b"weights")
    setting = BenchmarkConfig(prompting="mined")
    with track("run", root=root) as run:
        run.model("ovseg-toy", clip=root, settings=setting, arm="both")
        run.scores({"miou_union": 0.5}, setting=setting, headline=[], name="ovseg-toy", clip=root)
    assert problems(root) == [] and run.registered == {}
    assert client_of(root).search_registered_models() == []
    logged = runs_by_name(root)["run"]
    assert "set benchmarks.contexts_from" in logged.data.tags["not_registered"]
    assert "both of ovseg-toy is not registered: benchmarks.prompting=mined" in caplog.text
    assert logged.data.metrics == {"storybook/miou_union": 0.5}


def test_a_model_version_shows_its_scores_and_no_snapshots(root):
    clip = root / "clip"
    (clip / "snapshots").mkdir(parents=True)
    (clip / "model.safetensors").write_bytes(b"weights")
    (clip / "snapshots" / "step-000001.safetensors").write_bytes(b"snapshot")
    scores = {"miou_union": 0.25, "miou_gt": 0.5, "pacc": 0.125}
    asked = {"headline": ["miou_union", "miou_gt"], "name": "ovseg-toy"}
    toy, more = BenchmarkConfig(benchmark="toy"), BenchmarkConfig(benchmark="more-7")
    with track("run", root=root) as run:
        run.model(
            "ovseg-toy",
            clip=clip,
            settings=BenchmarkConfig(),
            arm="both",
            description="what it is",
            about="all of them",
            tags={"seed": "0"},
        )
        with track("score", root=root) as child:
            child.scores(scores, setting=toy, clip=clip, **asked)
            child.scores({"miou_union": 0.75}, setting=more, clip=clip, **asked)
        with track("original", root=root) as original:
            original.scores(scores, setting=toy, clip=None, **asked)
    assert problems(root) == []
    client = client_of(root)
    (version,) = client.search_model_versions("name='ovseg-toy'")
    assert version.tags["seed"] == "0" and version.tags["toy/miou_union"] == "0.250000"
    head, _, table = version.description.partition("### Scores")
    assert head.strip() == "what it is"
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        "| more-7 | miou_union | 75.0 |",
        "| toy | miou_gt | 50.0 |",
        "| toy | miou_union | 25.0 |",
    ]
    assert client.get_registered_model("ovseg-toy").description == "all of them"
    model = client.get_logged_model(run.registered["both"].model_id)
    assert {metric.key: metric.value for metric in model.metrics} == {
        "toy/miou_union": 0.25,
        "toy/miou_gt": 0.5,
        "toy/pacc": 0.125,
        "more-7/miou_union": 0.75,
    }
    logged = runs_by_name(root)["original"].data.metrics
    assert logged == {f"toy/{name}": value for name, value in scores.items()}
    names = {path.name for path in (root / "mlartifacts").rglob("*.safetensors")}
    assert names == {"model.safetensors"}
