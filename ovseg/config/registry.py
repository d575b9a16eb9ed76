"""Registries: tables from names in a configuration to code, one per subject.

| subject | table | setting |
| --- | --- | --- |
| caption sources | `FORMATS` | `data.captions_format` |
| proposal sources of mining | `SOURCES` | `mining.proposals.source` |
| proposal networks, from pixels alone | `PROPOSERS` | `benchmarks.proposals` |
| what queries become | `SEGMENTS` | `mining.proposals.segments`, `benchmarks.segments` |
| benchmarks | `READERS` | `benchmarks.benchmark` |
| text prompts | `PROMPTINGS` | `benchmarks.prompting` |
| template sets | `TEMPLATES` | `benchmarks.templates` |
| region embedders | `EMBEDDERS` | `benchmarks.embedder`, `mining.pairing.embedder` |
| training methods | `METHODS` | `arms.trains` |
| recipes | `RECIPES` | `--recipe` of `python -m flows.train_segmentation` |
| systems | `ovseg.config.systems.SYSTEMS` | `benchmarks.system` |
| published data sets | `ovseg.data.benchmarks.published.PUBLISHED` | `ovseg prepare NAME` |
| what CLIP sees of a region | `ovseg.models.regions.styles.REGIONS` | `region` of a stage |
| ablations | `ovseg.ablations.tables.registry.TABLES` | the name given to `ovseg ablate` |
| tables of the catalog | `ovseg.catalog.relations.RELATIONS` | |

The tables here hold the place of the code, as `package.module:attribute`, and import it on first
use: checking a name takes milliseconds, importing the modules takes seconds. The other tables are
plain data; the styles of `REGIONS` are `ovseg.config.base.RegionStyle`. `ovseg.config.checks` looks
up settings before a run begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from ovseg.errors import OvsegError

if TYPE_CHECKING:
    from ovseg.config.mining import ProposalsConfig
    from ovseg.config.scoring import BenchmarkConfig
    from ovseg.data.benchmarks.benchmark import Benchmark
    from ovseg.data.captions.captioned_image import Reader
    from ovseg.mining.proposals.source import ProposalSource
    from ovseg.models.proposal import Proposals
    from ovseg.models.proposals.proposers import Proposer
    from ovseg.models.regions.embedders import EmbedderConfig, RegionEmbedder
    from ovseg.models.texts.strategies import TextPrompts
    from ovseg.training.clip.methods import Method
    from ovseg.training.segmentation.recipes import SegmentationConfig

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """A table of names whose entries are imported on first use.

    Args:
        places: name to entry, or to its place as `package.module:attribute`.
    """

    def __init__(self, places: Mapping[str, str | T]) -> None:
        self._places: dict[str, Any] = dict(places)
        self._entries: dict[str, T] = {}  # those used so far

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            place = self._places[name]
            self._entries[name] = _imported(name, place) if isinstance(place, str) else place
        return self._entries[name]

    def module(self, name: str) -> str | None:
        """Return the module that holds the code of an entry, without importing it.

        Args:
            name: name of the entry.

        Returns:
            Its dotted name; None for an entry that is plain data.
        """
        place = self._places[name]
        if isinstance(place, str):
            return place.partition(":")[0]
        module = getattr(place, "__module__", None)
        return module if isinstance(module, str) else None

    def __setitem__(self, name: str, entry: str | T) -> None:
        self._places[name] = entry
        self._entries.pop(name, None)

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._entries.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _imported(name: str, place: str) -> Any:
    try:
        return resolve_name(place)
    except (ImportError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise OvsegError(
            f"{name!r} is registered as {place}, which cannot be imported ({reason}):"
            " write package.module:attribute"
        ) from error


def modules_named(name: str, registries: Sequence[Registry[Any]]) -> set[str]:
    """Return the modules that hold the code of a setting's value.

    Args:
        name: the value.
        registries: the tables that may have the name; one leads to the next.

    Returns:
        Dotted names. If no table has the name (`auto`; a benchmark without a reader of its own),
        the entry is only known later, so these are the modules of all entries.
    """
    matches = [registry for registry in registries if name in registry]
    modules = {registry.module(name) for registry in matches}
    if not matches:
        modules = {registry.module(each) for registry in registries for each in registry}
    return modules - {None}  # type: ignore[return-value]


FORMATS: Registry[Reader] = Registry(
    {
        "coco": "ovseg.data.captions.coco:read_coco",
        "labelled": "ovseg.data.captions.formats:read_labelled",
        "jsonl": "ovseg.data.captions.tables:read_jsonl",
        "csv": "ovseg.data.captions.tables:read_csv",
        "tsv": "ovseg.data.captions.tables:read_tsv",
        "parquet": "ovseg.data.captions.tables:read_parquet",
        "flickr": "ovseg.data.captions.tables:read_flickr",
        "img2dataset": "ovseg.data.captions.img2dataset:read_img2dataset",
        "webdataset": "ovseg.data.captions.webdataset:read_webdataset",
    }
)
"""Readers of a captions file or folder."""

READERS: Registry[Callable[[Path], Benchmark]] = Registry(
    {"storybook": "ovseg.data.benchmarks.benchmark:read_storybook"}
)
"""Functions that read a benchmark's folder; `read_prepared` for any other name."""

PROPOSERS: Registry[Proposer] = Registry(
    {
        "maskformer": "ovseg.models.maskformer.load:load_maskformer",
        "sam": "ovseg.models.proposals.sam:load_sam",
        "maskcut": "ovseg.models.proposals.maskcut:load_maskcut",
        "clusters": "ovseg.models.proposals.clusters:load_clusters",
        "slic": "ovseg.models.proposals.superpixels:load_slic",
        "felzenszwalb": "ovseg.models.proposals.superpixels:load_felzenszwalb",
    }
)
"""Functions that load a proposal network, given the name of its weights and a device."""

SOURCES: Registry[Callable[[ProposalsConfig], ProposalSource]] = Registry(
    {
        **dict.fromkeys(PROPOSERS, "ovseg.mining.proposals.sources:NetworkSource"),
        "ground_truth": "ovseg.mining.proposals.ground_truth:GroundTruthSource",
    }
)
"""Functions that make a source of proposals for mining from its configuration."""

SEGMENTS: Registry[Callable[[Proposals], Proposals]] = Registry(
    {
        "queries": "ovseg.models.proposals.query_segments:queries",
        "semantic": "ovseg.models.proposals.query_segments:semantic",
        "instance": "ovseg.models.proposals.query_segments:instance",
        "panoptic": "ovseg.models.proposals.query_segments:panoptic",
    }
)
"""Functions that turn an image's queries into proposals."""

PROMPTINGS: Registry[Callable[[BenchmarkConfig], TextPrompts]] = Registry(
    {
        "templates": "ovseg.models.texts.strategies:templates",
        "contextual": "ovseg.models.texts.strategies:contextual",
        "mined": "ovseg.models.texts.strategies:mined",
        "learned": "ovseg.models.texts.strategies:learned",
    }
)
"""Functions that make a strategy from a configuration: how class names become embeddings."""

TEMPLATES: Registry[tuple[str, ...]] = Registry(
    {
        "single": "ovseg.models.texts.templates:SINGLE",
        "mining": "ovseg.models.texts.templates:MINING",
        "scene": "ovseg.models.texts.templates:SCENE",
        "vild": "ovseg.models.texts.templates:VILD",
        "imagenet": "ovseg.models.texts.templates:IMAGENET",
    }
)
"""Sets of prompt templates."""

EMBEDDERS: Registry[Callable[[EmbedderConfig, str, str], RegionEmbedder]] = Registry(
    {
        "crops": "ovseg.models.regions.embedders:crops",
        "pixel_pooling": "ovseg.models.regions.embedders:pixel_pooling",
        "mask_tokens": "ovseg.models.regions.embedders:mask_tokens",
        "mask_pooling": "ovseg.models.regions.embedders:mask_pooling",
    }
)
"""Functions that make an embedder from the configuration of a benchmark or of pairing, the CLIP's
name and a device."""

METHODS: Registry[Method] = Registry(
    {
        "image_encoder": "ovseg.training.clip.methods:IMAGE_ENCODER",
        "mask_prompts": "ovseg.training.clip.methods:MASK_PROMPTS",
        "joint": "ovseg.training.clip.methods:JOINT",
        "pixel_prompts": "ovseg.training.clip.methods:PIXEL_PROMPTS",
        "mask_and_pixel_prompts": "ovseg.training.clip.methods:MASK_AND_PIXEL_PROMPTS",
        "joint_pixel_prompts": "ovseg.training.clip.methods:JOINT_PIXEL_PROMPTS",
        "joint_mask_and_pixel_prompts": "ovseg.training.clip.methods:JOINT_MASK_AND_PIXEL_PROMPTS",
        "visual_prompts": "ovseg.training.clip.methods:VISUAL_PROMPTS",
        "text_prompts": "ovseg.training.clip.methods:TEXT_PROMPTS",
        "class_text_prompts": "ovseg.training.clip.methods:CLASS_TEXT_PROMPTS",
    }
)
"""What a phase trains; the joint ones also train the image encoder. Prompts that are in the CLIP
but not trained stay in use: prompts before fine-tuning are two phases."""


RECIPES: Registry[SegmentationConfig] = Registry(
    {
        "swin": "ovseg.training.segmentation.recipes:SWIN_CONFIG",
        "r101c": "ovseg.training.segmentation.recipes:R101C_CONFIG",
        "lseg": "ovseg.training.segmentation.recipes:LSEG_CONFIG",
        "compact": "ovseg.training.segmentation.recipes:COMPACT_CONFIG",
        "compact-lseg": "ovseg.training.segmentation.recipes:COMPACT_LSEG_CONFIG",
        "compact-supervised": "ovseg.training.segmentation.recipes:COMPACT_SUPERVISED_CONFIG",
    }
)
"""Configurations of training on masks and labels."""


def chosen(registry: Mapping[str, T], name: str, *, setting: str) -> T:
    """Return the registry entry that a setting names.

    Args:
        registry: name to entry.
        name: the setting's value.
        setting: its dotted name, for the message.

    Raises:
        OvsegError: the name is unknown; the message lists the known ones.
    """
    check_name(registry, name, setting=setting)
    return registry[name]


def check_name(registry: Mapping[str, object], name: str, *, setting: str) -> None:
    """Reject a name that is not in a registry, without importing the entry.

    Raises:
        OvsegError: see `chosen`.
    """
    if not isinstance(name, str) or name not in registry:
        raise OvsegError(
            f"{setting}: unknown name {name!r:.80}; choose one of {', '.join(registry)}"
        )
