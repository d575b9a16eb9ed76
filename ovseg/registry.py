"""How a name in a configuration becomes code: one dict a subject, and one way to look it up.

| subject | registry | setting |
| --- | --- | --- |
| caption sources | `ovseg.data.captions.FORMATS` | `images.captions_format` |
| proposal sources of mining | `ovseg.mining.proposal_sources.SOURCES` | `proposals.source` |
| what proposes, of pixels alone | `ovseg.models.proposers.PROPOSERS` | `benchmarks.proposals` |
| what queries become | `ovseg.models.segments.SEGMENTS` | `segments` of `proposals`, `benchmarks` |
| benchmarks | `ovseg.data.benchmarks.READERS` | `benchmarks.benchmark` |
| systems | `ovseg.systems.SYSTEMS` | `benchmarks.system` |
| text prompts | `ovseg.models.prompting.PROMPTINGS` | `benchmarks.prompting` |
| template sets | `ovseg.models.prompts.TEMPLATES` | `benchmarks.templates` |
| region embedders | `ovseg.models.embedders.EMBEDDERS` | `benchmarks.embedder` |
| published data sets | `ovseg.data.published.PUBLISHED` | the name given to `ovseg prepare` |
| what CLIP sees of a region | `ovseg.models.regions.REGIONS` | `region` of a stage |
| training methods | `ovseg.training.groups.METHODS` | `arms.trains` |
| ablations | `ovseg.ablations.tables.TABLES` | the name given to `ovseg ablate` |
| tables of the catalogue | `ovseg.analysis.relations.RELATIONS` | |

`ovseg.named_settings` looks up the settings among these before a run begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ovseg.errors import OvsegError

T = TypeVar("T")


def chosen(registry: Mapping[str, T], name: str, *, setting: str) -> T:
    """What a registry holds under the name that a setting gives.

    Args:
        registry: by name.
        name: the setting's value.
        setting: its dotted name, for the message.

    Raises:
        OvsegError: if there is no such name; the message lists those there are.
    """
    if name not in registry:
        raise OvsegError(f"{setting}: there is no {name!r}; choose one of {', '.join(registry)}")
    return registry[name]
