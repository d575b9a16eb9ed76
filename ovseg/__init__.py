"""ovseg: open-vocabulary semantic segmentation with mask-adapted CLIP.

    from ovseg import load_segmentor, read_image

    segmentor = load_segmentor("storybook", classes=["moon", "tree", "sea"])
    labels = segmentor.segment(read_image("photo.jpg")).labels  # (H, W) class indices

The names in `__all__` are imported on first use: `import ovseg` loads neither torch nor duckdb.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from ovseg.files import renamed

if TYPE_CHECKING:
    from ovseg.catalog.catalog import open_catalog
    from ovseg.data.images import read_image
    from ovseg.models.build import load_segmentor
    from ovseg.stages.run import run_stage

__all__ = ["load_segmentor", "open_catalog", "read_image", "run_stage"]
__version__ = "0.1.0"
_PLACES = {
    "load_segmentor": "ovseg.models.build:load_segmentor",
    "open_catalog": "ovseg.catalog.catalog:open_catalog",
    "read_image": "ovseg.data.images:read_image",
    "run_stage": "ovseg.stages.run:run_stage",
}

renamed.install()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ovseg' has no attribute {name!r}")
    return resolve_name(_PLACES[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
