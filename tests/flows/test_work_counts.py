"""The work of a run, counted: what is shared is computed once, a second run computes nothing.

The bounds follow from the sizes of the run, so that they hold on a machine of any speed.
"""

from collections import Counter
from pathlib import Path

import pytest
from work_counters import PLANNING, counting

from flows.pipeline import pipeline
from ovseg.stages.manifest import Manifest

MINED, SCORED = 12, 4
"""Scenes of both parts of the world."""
ARMS, PHASES, TRAINED = 4, 3, 3
"""The arms; what they train, as two begin with the same phase; those that train anything."""
NETWORKS = ("CLIPs loaded", "MaskFormers loaded", "parsers loaded")


@pytest.fixture(scope="module")
def counted(prefect_server, small, tmp_path_factory):
    """A small run and the same command again: (root, work of the first, of the second)."""
    root = tmp_path_factory.mktemp("counted") / "results"
    scenes = {
        "data.mining_world.scenes": MINED,
        "data.benchmark_world.scenes": SCORED,
        "data.min_shards": 2,
        "execution.decode_workers": 0,  # other processes would not be counted
    }
    with counting() as first:
        pipeline("storybook", root=root, overrides={**small, **scenes})
    with counting() as again:
        pipeline("storybook", root=root, overrides={**small, **scenes})
    return root, first, again


@pytest.fixture(scope="module")
def manifests(counted):
    """The manifests of the run by stage."""
    found: dict[str, list[Manifest]] = {}
    for path in sorted(counted[0].rglob("manifest.json")):
        if "mlartifacts" not in path.parts:
            manifest = Manifest.read(path.parent)
            found.setdefault(manifest.stage, []).append(manifest)
    return found


@pytest.fixture(scope="module")
def proposed(manifests):
    """The rows of the proposals."""
    (manifest,) = manifests["proposals"]
    rows = manifest.table(["image_id", "mask_counts", "kept"]).to_pylist()
    return [row for row in rows if row["mask_counts"] is not None]


@pytest.fixture(scope="module")
def pairable(manifests, proposed):
    """Number of kept proposals of images with nouns: those that pairing looks at."""
    (nouns,) = manifests["nouns"]
    with_nouns = {row["image_id"] for row in nouns.table().to_pylist() if row["kept"]}
    return sum(row["kept"] and row["image_id"] in with_nouns for row in proposed)


@pytest.fixture(scope="module")
def queries(proposed):
    """The most masks the network proposes for an image."""
    return max(Counter(row["image_id"] for row in proposed).values())


@pytest.fixture(scope="module")
def truth(manifests):
    """Number of ground-truth masks of the benchmark."""
    return manifests["benchmarks"][0].stats["masks"]


def test_the_run_has_the_sizes_that_the_bounds_are_for(manifests):
    assert len(manifests["benchmarks"]) == ARMS
    assert len(manifests["checkpoints"]) == len(manifests["phase-curves"]) == PHASES
    (table,) = manifests["tables/pairs"]
    assert table.rows > 0 and manifests["curated"][0].rows > 0


def test_images_are_decoded_once_a_stage(counted):
    _, work, _ = counted
    decoded = work.of("decoded")
    # each stage that looks at pixels decodes each of its images once, for all arms and all phases
    for stage in ("images_listed", "proposals"):
        assert decoded.pop(stage) == MINED
    for stage in ("pairs", "checkpoints"):  # an image may have no pair
        assert decoded.pop(stage) <= MINED
    assert decoded.pop("fingerprints") == decoded.pop("benchmarks") == SCORED
    # the snapshots of a phase are scored together
    assert decoded.pop("phase-curves") == PHASES * SCORED
    # a sheet has 6 rows of either kind; a report the mined images, the segmented, and 12 mistakes
    assert decoded.pop("contact_sheet") <= 6 + SCORED
    assert decoded.pop("report") <= MINED + SCORED + 12
    assert not decoded


def test_images_are_proposed_once_for_all_arms(counted):
    _, work, _ = counted
    of_stage = {
        "proposals": MINED,
        **dict.fromkeys(("benchmarks", "contact_sheet", "report"), SCORED),
    }
    assert work.of("proposed") == of_stage


def test_masks_are_encoded_once_and_decoded_where_they_are_used(
    counted, manifests, proposed, pairable
):
    _, work, _ = counted
    assert work.total("masks encoded") == len(proposed)
    decoded = work.of("masks decoded")
    assert decoded.pop("pairs") == pairable
    # the training set is decoded for the first phase, and the others map its regions
    assert decoded.pop("checkpoints") == manifests["curated"][0].rows
    assert decoded.pop("pair-truth") <= manifests["pair-truth"][0].rows
    # pictures: a sheet tints every mask of 6 images, and outlines those of the pairs
    pairs = manifests["tables/pairs"][0].rows
    assert decoded.pop("contact_sheet") <= pairable + 2 * pairs
    assert decoded.pop("report") <= pairs
    assert not decoded


def test_regions_are_cut_once_and_embedded_by_each_clip(
    counted, manifests, pairable, queries, truth
):
    _, work, _ = counted
    cut, embedded = work.of("regions cut"), work.of("embedded")
    assert cut.pop("pairs") == embedded.pop("pairs") == pairable
    # the regions of the training set are cut once for all phases; each step embeds its batch
    assert cut.pop("checkpoints") == manifests["curated"][0].rows
    steps = [(each.rows, each.config["batch_size"]) for each in manifests["checkpoints"]]
    assert embedded.pop("checkpoints") <= sum(rows * batch for rows, batch in steps)
    # ground-truth masks and proposals are cut once, and every arm embeds all of them
    assert cut["benchmarks"] <= truth + SCORED * queries
    assert embedded.pop("benchmarks") == ARMS * cut.pop("benchmarks")
    # all snapshots of a phase see the same crops
    assert cut.pop("phase-curves") == PHASES * truth
    points = sum(each.stats["points"] for each in manifests["phase-curves"])
    assert embedded.pop("phase-curves") == points * truth
    # the sheet and the report show the original CLIP and an adapted one
    for stage in ("contact_sheet", "report"):
        assert cut[stage] <= SCORED * queries
        assert embedded.pop(stage) == 2 * cut.pop(stage)
    assert not cut and not embedded


def test_texts_are_embedded_once_by_each_clip(counted, manifests):
    _, work, _ = counted
    assert set(work.texts.values()) == {1}
    of_stage: dict[str, dict[int, set]] = {}
    for stage, clip, text in work.texts:
        of_stage.setdefault(stage, {}).setdefault(clip, set()).add(text)
    # nouns: by the CLIP that pairs them, and those of the training set for each phase
    (nouns,) = of_stage.pop("texts").values()
    assert len(nouns) == manifests["texts"][0].rows
    assert len(of_stage.pop("checkpoints")) == PHASES
    # class names in templates: by the CLIP of each arm, which the sheet and the report share
    of_arms, of_phases = of_stage.pop("benchmarks"), of_stage.pop("phase-curves")
    assert len(of_arms) == ARMS and len(of_phases) == PHASES  # a phase does not train the texts
    assert len({frozenset(texts) for texts in (*of_arms.values(), *of_phases.values())}) == 1
    assert not of_stage


def test_networks_are_loaded_once(counted):
    _, work, _ = counted
    loaded = work.of("CLIPs loaded")
    # the original CLIP by the first stage that needs it, an adapted one by the benchmark
    assert loaded.pop("texts") + loaded.pop("benchmarks") == 1 + TRAINED
    # a training changes its CLIP; snapshots are restored into a CLIP next to that of the start
    assert loaded.pop("checkpoints") == PHASES and loaded.pop("phase-curves") == 2 * PHASES
    assert not loaded
    assert work.total("MaskFormers loaded") == 1 and work.total("parsers loaded") == 1
    assert work.of("resolved") == {PLANNING: 1}


def test_nothing_is_written_twice_but_catalogs_and_states(counted):
    root, work, _ = counted
    kept = [path for path in root.rglob("*") if path.is_file() and not _tracked(path, root)]
    # mining, training, each benchmark and the report publish a catalog that replaces the last
    (times, catalogs), (_, notes), (drafted, drafts) = (
        work.published[name]
        for name in ("catalog.duckdb", "catalog.json", "catalog-rejected.duckdb")
    )
    assert times <= 5 and drafted == 1  # what mining would publish is checked first
    # until a training ends, it has a state, with its snapshots
    states = [v for name, v in work.published.items() if name.startswith(("latest.", "step-"))]
    assert sum(times for times, _ in states) == 2 * PHASES
    rewritten = sum(times for times, _ in states) + times + work.published["catalog.json"][0] - 2
    rewritten += drafted
    assert work.total("files written") == len(kept) + rewritten
    once = work.total("bytes written") - sum(size for _, size in states) - catalogs - notes
    once -= drafts
    assert once <= sum(path.stat().st_size for path in kept)
    # a state has the weights and two moments of what is trained, less than what is kept of it
    of_checkpoints = [path for path in kept if "checkpoints" in path.parts]
    assert sum(size for _, size in states) <= sum(path.stat().st_size for path in of_checkpoints)


def test_the_same_command_again_computes_nothing(counted):
    _, _, work = counted
    for kind in ("decoded", "masks encoded", "masks decoded", "regions cut", "embedded"):
        assert not work.of(kind)
    assert not work.of("proposed") and not work.texts
    # digests are those of files, so nothing is loaded for them
    assert {kind: work.total(kind) for kind in NETWORKS} == dict.fromkeys(NETWORKS, 0)
    assert set(work.published) <= {"catalog.json"}  # a catalog that would show the same stays


def _tracked(path: Path, root: Path) -> bool:
    """Whether MLflow wrote a file."""
    parts = path.relative_to(root).parts
    return parts[0] == "mlartifacts" or parts[0].startswith("mlflow.db")
