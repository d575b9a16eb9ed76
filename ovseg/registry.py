"""How a name in a configuration becomes code: one table a subject, and one way to look it up.

| subject | table | setting |
| --- | --- | --- |
| caption sources | `FORMATS` | `images.captions_format` |
| proposal sources of mining | `SOURCES` | `proposals.source` |
| what proposes, of pixels alone | `PROPOSERS` | `benchmarks.proposals` |
| what queries become | `SEGMENTS` | `segments` of `proposals`, `benchmarks` |
| benchmarks | `READERS` | `benchmarks.benchmark` |
| text prompts | `PROMPTINGS` | `benchmarks.prompting` |
| template sets | `TEMPLATES` | `benchmarks.templates` |
| region embedders | `EMBEDDERS` | `benchmarks.embedder` |
| training methods | `METHODS` | `arms.trains` |
| recipes | `RECIPES` | `--recipe` of `python -m flows.train_segmentation` |
| systems | `ovseg.systems.SYSTEMS` | `benchmarks.system` |
| published data sets | `ovseg.data.published.PUBLISHED` | the name given to `ovseg prepare` |
| what CLIP sees of a region | `ovseg.models.regions.REGIONS` | `region` of a stage |
| ablations | `ovseg.ablations.tables.TABLES` | the name given to `ovseg ablate` |
| tables of the catalogue | `ovseg.analysis.relations.RELATIONS` | |

The tables here say where the code of a name is, as `package.module:attribute`, and import it on
first use: a name is found right or wrong in milliseconds, where the modules behind the tables take
seconds to import. The others are data, which is as quickly read; the styles of `REGIONS` are
`ovseg.config.RegionStyle`. `ovseg.named_settings` looks up settings before a run begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from ovseg.errors import OvsegError

if TYPE_CHECKING:
    from ovseg.benchmark_config import BenchmarkConfig
    from ovseg.config import ProposalsConfig
    from ovseg.data.benchmarks import Benchmark
    from ovseg.data.captioned import Reader
    from ovseg.mining.proposed import ProposalSource
    from ovseg.models.embedders import RegionEmbedder
    from ovseg.models.prompting import TextPrompts
    from ovseg.models.proposers import Proposer
    from ovseg.models.segments import Queries
    from ovseg.training.groups import Method
    from ovseg.training.recipes import SegmentationConfig

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """A table of names, whose entries are imported when they are asked for.

    Args:
        places: by name the entry, or where it is, as `package.module:attribute`.
    """

    def __init__(self, places: Mapping[str, str | T]) -> None:
        self._entries: dict[str, Any] = dict(places)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, str):
            try:
                entry = resolve_name(entry)
            except (ImportError, AttributeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise OvsegError(
                    f"{name!r} is registered as {entry}, which cannot be imported ({reason}):"
                    " write package.module:attribute"
                ) from error
            self._entries[name] = entry
        return entry  # type: ignore[no-any-return]

    def __setitem__(self, name: str, entry: str | T) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


FORMATS: Registry[Reader] = Registry(
    {
        "coco": "ovseg.data.coco_captions:read_coco",
        "labelled": "ovseg.data.labelled_images:read_labelled",
        "jsonl": "ovseg.data.caption_tables:read_jsonl",
        "csv": "ovseg.data.caption_tables:read_csv",
        "tsv": "ovseg.data.caption_tables:read_tsv",
        "parquet": "ovseg.data.caption_tables:read_parquet",
        "flickr": "ovseg.data.flickr_captions:read_flickr",
        "img2dataset": "ovseg.data.img2dataset:read_img2dataset",
        "webdataset": "ovseg.data.webdataset_captions:read_webdataset",
    }
)
"""How a captions file or folder is read."""

READERS: Registry[Callable[[Path], Benchmark]] = Registry(
    {"storybook": "ovseg.data.benchmarks:read_storybook"}
)
"""The function that reads a benchmark's folder; `read_prepared` for any other name."""

PROPOSERS: Registry[Proposer] = Registry(
    {
        "maskformer": "ovseg.models.maskformer:load_maskformer",
        "sam": "ovseg.models.sam:load_sam",
        "maskcut": "ovseg.models.proposers:maskcut",
        "clusters": "ovseg.models.proposers:clusters",
        "slic": "ovseg.models.proposers:slic",
        "felzenszwalb": "ovseg.models.proposers:felzenszwalb",
    }
)
"""What makes a proposal network of the name of its weights and a device, in mining as well."""

SOURCES: Registry[Callable[[ProposalsConfig], ProposalSource]] = Registry(
    {
        **dict.fromkeys(PROPOSERS, "ovseg.mining.proposal_sources:NetworkSource"),
        "ground_truth": "ovseg.mining.ground_truth:GroundTruthSource",
    }
)
"""Where the proposals of mining come from: what makes a source of its configuration."""

SEGMENTS: Registry[Callable[[Queries], Queries]] = Registry(
    {
        "queries": "ovseg.models.segments:queries",
        "semantic": "ovseg.models.segments:semantic",
        "instance": "ovseg.models.segments:instance",
        "panoptic": "ovseg.models.segments:panoptic",
    }
)
"""What is made of an image's queries."""

PROMPTINGS: Registry[Callable[[BenchmarkConfig], TextPrompts]] = Registry(
    {
        "templates": "ovseg.models.prompting:templates",
        "contextual": "ovseg.models.prompting:contextual",
        "mined": "ovseg.models.prompting:mined",
        "learned": "ovseg.models.prompting:learned",
    }
)
"""How a class name becomes an embedding: a strategy of a configuration."""

TEMPLATES: Registry[tuple[str, ...]] = Registry(
    {
        "single": "ovseg.models.prompts:SINGLE",
        "mining": "ovseg.models.prompts:MINING",
        "scene": "ovseg.models.prompts:SCENE",
        "vild": "ovseg.models.prompts:VILD",
        "imagenet": "ovseg.models.prompts:IMAGENET",
    }
)
"""Sets of prompt templates."""

EMBEDDERS: Registry[Callable[[BenchmarkConfig, str, str], RegionEmbedder]] = Registry(
    {
        "crops": "ovseg.models.embedders:crops",
        "pixel_pooling": "ovseg.models.embedders:pixel_pooling",
        "mask_tokens": "ovseg.models.embedders:mask_tokens",
        "mask_pooling": "ovseg.models.embedders:mask_pooling",
    }
)
"""What makes an embedder of a configuration, the CLIP's name and a device."""

METHODS: Registry[Method] = Registry(
    {
        "image_encoder": "ovseg.training.groups:IMAGE_ENCODER",
        "mask_prompts": "ovseg.training.groups:MASK_PROMPTS",
        "joint": "ovseg.training.groups:JOINT",
        "pixel_prompts": "ovseg.training.groups:PIXEL_PROMPTS",
        "mask_and_pixel_prompts": "ovseg.training.groups:MASK_AND_PIXEL_PROMPTS",
        "joint_pixel_prompts": "ovseg.training.groups:JOINT_PIXEL_PROMPTS",
        "joint_mask_and_pixel_prompts": "ovseg.training.groups:JOINT_MASK_AND_PIXEL_PROMPTS",
        "visual_prompts": "ovseg.training.groups:VISUAL_PROMPTS",
        "text_prompts": "ovseg.training.groups:TEXT_PROMPTS",
        "class_text_prompts": "ovseg.training.groups:CLASS_TEXT_PROMPTS",
    }
)
"""What a phase trains: the joint ones train the image encoder as well. What a phase does not train
but finds in its CLIP stays and takes part: prompts before fine-tuning are two phases."""


RECIPES: Registry[SegmentationConfig] = Registry(
    {
        "swin": "ovseg.training.recipes:SWIN_CONFIG",
        "r101c": "ovseg.training.recipes:R101C_CONFIG",
        "lseg": "ovseg.training.recipes:LSEG_CONFIG",
        "compact": "ovseg.training.recipes:COMPACT_CONFIG",
        "compact-lseg": "ovseg.training.recipes:COMPACT_LSEG_CONFIG",
        "compact-supervised": "ovseg.training.recipes:COMPACT_SUPERVISED_CONFIG",
    }
)
"""What a training on masks and labels is set to."""


def chosen(registry: Mapping[str, T], name: str, *, setting: str) -> T:
    """What a registry holds under the name that a setting gives.

    Args:
        registry: by name.
        name: the setting's value.
        setting: its dotted name, for the message.

    Raises:
        OvsegError: if there is no such name; the message lists those there are.
    """
    check_name(registry, name, setting=setting)
    return registry[name]


def check_name(registry: Mapping[str, object], name: str, *, setting: str) -> None:
    """Refuse a name that a registry does not have, without importing what it stands for.

    Raises:
        OvsegError: see `chosen`.
    """
    if not isinstance(name, str) or name not in registry:
        raise OvsegError(
            f"{setting}: there is no {name!r:.80}; choose one of {', '.join(registry)}"
        )
