"""Round trip of a checkpoint of the published size: seconds, peak memory, equal bits.

python -m bench.full_checkpoint [swinB_vitL14 | R101c_vitB16]

Writes a file of random numbers with the names, shapes and types of the published one (about 2.1 GB,
for R101c 0.8) into a temporary folder (see `TMPDIR`); needs four times that disk space.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED_NAMES = ROOT / "tests" / "golden" / "published_names.json.gz"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def random_state(model: str) -> OrderedDict[str, Tensor]:
    """Make the tensors of a published file, random except where a checkpoint needs fixed values."""
    published = json.loads(gzip.decompress(PUBLISHED_NAMES.read_bytes()))[model]
    generator = torch.Generator().manual_seed(0)
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, (shape, kind) in published.items():
        if kind == "int64":
            state[name] = torch.randint(0, 500, shape, generator=generator)
        else:
            state[name] = torch.randn(shape, generator=generator) * 0.02
    state["clip_adapter.pixel_mean"] = 255 * torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
    state["clip_adapter.pixel_std"] = 255 * torch.tensor(CLIP_STD).view(1, 3, 1, 1)
    weights = torch.ones(published["criterion.empty_weight"][0])
    weights[-1] = 0.1
    state["criterion.empty_weight"] = weights
    return state


def command(*arguments: str) -> None:
    """Run an `ovseg` command in a separate process; print its time and peak memory."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if status:
        sys.exit(f"ovseg {arguments[0]} failed")
    # kilobytes, as Linux counts them
    print(f"ovseg {arguments[0]}: {took:.0f} s, peak memory {usage.ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    """Print the cost of the round trip, and whether every bit is preserved."""
    model = sys.argv[1] if len(sys.argv) > 1 else "swinB_vitL14"
    with tempfile.TemporaryDirectory(prefix="ovseg-") as name:
        folder = Path(name)
        source, back = folder / "published.pth", folder / "back.pth"
        torch.save({"model": random_state(model)}, source)
        print(f"{model}: {source.stat().st_size / 2**30:.2f} GiB")
        command("import-checkpoint", str(source), "--out", str(folder / "ours"))
        command("export-checkpoint", str(folder / "ours"), "--layout", "ovseg", "--out", str(back))
        given, found = (
            torch.load(path, weights_only=True, mmap=True)["model"] for path in (source, back)
        )
        differing = [
            name
            for name, tensor in given.items()
            if name not in found
            or found[name].dtype != tensor.dtype
            or not torch.equal(found[name], tensor)
        ]
        if differing or set(found) != set(given):
            sys.exit(f"{len(differing)} of {len(given)} tensors differ: {differing[:5]}")
        print(f"all {len(given)} tensors came back bit for bit")


if __name__ == "__main__":
    main()
