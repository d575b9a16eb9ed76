"""The steps of mining and curation; each runs a stage shard by shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import get_run_logger

from ovseg.config.data import FingerprintsConfig
from ovseg.config.mining import load_curation, pair_sources
from ovseg.config.presets import load_preset
from ovseg.config.run import RunConfig
from ovseg.data.fingerprints import FINGERPRINTS
from ovseg.data.listing import LIST_IMAGES
from ovseg.data.screening import IMAGES_LISTED, SCREEN_IMAGES
from ovseg.mining.nouns.embeddings import TEXTS
from ovseg.mining.nouns.mentions import parser_digest
from ovseg.mining.nouns.stage import NOUNS
from ovseg.mining.pairs.curation import CURATE
from ovseg.mining.pairs.labels import LABEL_PAIRS
from ovseg.mining.pairs.stage import PAIRS
from ovseg.mining.pairs.table import PAIR_TABLE
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.models.clip.load import clip_digest
from ovseg.stages.manifest import Manifest
from ovseg.training.clip.methods import method
from tasks.run import run
from tasks.worlds import Drawn


def by_source(run: Drawn) -> list[Drawn]:
    """Return a run for each source of pairs."""
    return [run.of(run.config.of_source(source)) for source in pair_sources(run.config)]


def check_models(config: RunConfig) -> None:
    """Check every model and method of the run before anything is computed.

    Raises:
        OvsegError: for the first that does not exist.
    """
    parser_digest(config.nouns.parser)
    PROPOSALS.weights(config.proposals, {})
    clip_digest(config.pairing.clip)
    for phases in config.arms.values():
        for phase in phases:
            method(phase.trains)


def read_images(config: RunConfig) -> dict[str, Manifest]:
    """List and check the images and their captions, and find those that benchmarks contain.

    Returns:
        By role `images`, `images_listed` (the same before screening) and, for each benchmark with a
        folder, `fingerprints/<benchmark>`.
    """
    root, label = config.root, "read images and captions"
    listed = run(LIST_IMAGES, config.images, {}, root, label=label)
    prints: dict[str, Manifest] = {}
    if missing := unscreened(config):
        get_run_logger().warning(
            "no folder of %s: your images cannot be checked for theirs; give --data",
            ", ".join(missing),
        )
    for item in config.benchmarks:
        if item.root is None:
            continue
        label = f"hash the images of {item.benchmark}"
        setting = FingerprintsConfig(benchmark=item.benchmark, root=item.root)
        prints[item.benchmark] = run(FINGERPRINTS, setting, {}, root, label=label)
    inputs = {IMAGES_LISTED: listed, **prints}
    screening = config.mining.screening
    screened = run(SCREEN_IMAGES, screening, inputs, root, label="screen images")
    found = {f"fingerprints/{name}": manifest for name, manifest in prints.items()}
    return {IMAGES_LISTED: listed, **found, "images": screened}


def unscreened(config: RunConfig) -> list[str]:
    """Return the benchmarks (also of the preset) without a folder, whose images are unknown."""
    there = {item.benchmark for item in config.benchmarks if item.root is not None}
    wanted = {item.benchmark for item in config.benchmarks}
    if not config.data.scored:
        wanted |= {item.benchmark for item in load_preset(config.preset).benchmarks}
    return sorted(wanted - there - {"storybook"})  # its scenes for mining and scoring are disjoint


def find_nouns(config: RunConfig, images: Manifest) -> Manifest:
    """Find the nouns of the captions."""
    return run(NOUNS, config.nouns, {"images": images}, config.root, label="find nouns")


def with_contexts(config: RunConfig) -> RunConfig:
    """Return the run with the noun table in its benchmarks, for prompts mined from it."""
    wanting = (each for each in config.benchmarks if each.prompting == "mined")
    if all(each.contexts_from for each in wanting):
        return config
    nouns = find_nouns(config, read_images(config)["images"])
    return config.replaced({"benchmarks.contexts_from": nouns.folder})


def propose_masks(config: RunConfig, images: Manifest) -> Manifest:
    """Propose masks in the images."""
    label = "propose masks" if config.source == "mined" else "read ground truth"
    return run(PROPOSALS, config.proposals, {"images": images}, config.root, label=label)


def embed_nouns(config: RunConfig, nouns: Manifest, adapted: Manifest | None = None) -> Manifest:
    """Embed each distinct noun once, by the adapted CLIP in a further mining round."""
    parts = {"nouns": nouns, **_of_round(adapted)}
    return run(TEXTS, config.texts, parts, config.root, label="embed nouns")


def _of_round(adapted: Manifest | None) -> dict[str, Manifest]:
    return {} if adapted is None else {"checkpoint": adapted}


def pair(
    config: RunConfig, parts: Mapping[str, Manifest], adapted: Manifest | None = None
) -> Manifest:
    """Pair every noun with the mask that CLIP ranks first, or labels with their masks.

    Args:
        config: the whole run; its source selects what is paired.
        parts: the previous stages by role.
        adapted: the checkpoint that pairs in a further mining round.
    """
    if config.source == "gt_label":
        labelled = {role: parts[role] for role in ("images", "proposals")}
        return run(LABEL_PAIRS, config.table, labelled, config.root, label="pair labels with masks")
    parts = {**parts, **_of_round(adapted)}
    return run(PAIRS, config.pairing, parts, config.root, label="pair nouns with masks")


def publish_table(config: RunConfig, pairs: Manifest) -> Manifest:
    """Merge and sort the pairs into the published table."""
    return run(PAIR_TABLE, config.table, {"pairs": pairs}, config.root, label="pair table")


def tables_by_role(tables: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return pair tables as inputs of a stage: `table`, and further ones as `table/<source>`."""
    roles = ["table", *(f"table/{table.config['source']}" for table in tables[1:])]
    return dict(zip(roles, tables, strict=True))


def curate(config: RunConfig, tables: Sequence[Manifest]) -> Manifest:
    """Select the training pairs with the configured query."""
    selected = load_curation(config.curation)
    return run(CURATE, selected, tables_by_role(tables), config.root, label="curate pairs")
