"""What a run has published: what two runs of equal input must have alike."""

from pathlib import Path

from ovseg.files.digests import file_sha256
from ovseg.stages.manifest import Manifest


def published(root: Path) -> dict[str, str]:
    """sha256 of every manifest and of every file a manifest names, by its path under the root."""
    found = {}
    for path in root.rglob("manifest.json"):
        if "mlartifacts" in path.parts:
            continue
        manifest = Manifest.read(path.parent)
        for item in (path, *manifest.paths()):
            for file in item.rglob("*") if item.is_dir() else (item,):
                if file.is_file():
                    found[file.relative_to(root).as_posix()] = file_sha256(file)
    return found
