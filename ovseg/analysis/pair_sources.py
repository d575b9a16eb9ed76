"""Which sources of pairs a run needs: those it names, else those its curation selects from."""

from __future__ import annotations

from typing import cast, get_args

from ovseg.analysis.sql_files import curation_file
from ovseg.config import PairSource
from ovseg.errors import OvsegError
from ovseg.settings import PipelineConfig


def pair_sources(config: PipelineConfig) -> tuple[PairSource, ...]:
    """The sources of pairs a run needs: those it names, else those its curation selects from."""
    return config.sources or curation_sources(config.curation)


def curation_sources(name_or_path: str) -> tuple[PairSource, ...]:
    """The sources of pairs that a curation selects from: its header's `Sources:`, else mined.

    Raises:
        OvsegError: if there is no such query, or it names a source there is not.
    """
    file, known = curation_file(name_or_path), get_args(PairSource)
    sources = file.listed("Sources") or ["mined"]
    for source in sources:
        if source not in known:
            raise OvsegError(
                f"{file.path}: there is no source {source!r} of pairs; name some of"
                f" {', '.join(known)} after Sources:"
            )
    return cast(tuple[PairSource, ...], tuple(sources))
