"""Nouns of all captions of COCO val2017: captions per second, by one process and by two; which.

OVSEG_REFERENCE_DATA=DIR python -m bench.real_captions [PARSER]
"""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.nouns import two_processes
from ovseg.mining.nouns.mentions import extract, load_parser
from ovseg.mining.nouns.stop_nouns import StopNouns


def main() -> list[dict[str, Any]]:
    """Print the extractor's results on 25,014 captions, and return the figure of two processes."""
    folder = os.environ.get("OVSEG_REFERENCE_DATA")
    if folder is None:
        sys.exit("set OVSEG_REFERENCE_DATA to the folder of reference data")
    path = Path(folder) / "realdata/coco_captions_val2017/annotations/captions_val2017.json"
    notes = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    parser = sys.argv[1] if len(sys.argv) > 1 else "storybook"
    nlp = load_parser(parser)
    began = time.perf_counter()
    captions = [note["caption"] for note in notes]
    mentions = [m for row in extract(captions, nlp, stop_nouns=StopNouns.load()) for m in row]
    took = time.perf_counter() - began
    kept = Counter(m.lemma for m in mentions if m.kept)
    dropped = Counter(m.lemma for m in mentions if (m.drop_reason or "").startswith("stop_noun"))
    compounds = sum(m.head is not None and m.kept for m in mentions)
    print(f"{len(notes)} captions in {took:.1f} s: {len(notes) / took:.0f} captions/s")
    print(f"{len(mentions)} mentions, {sum(kept.values())} kept, {compounds} of compounds;"
          f" {len(kept)} distinct nouns kept")  # fmt: skip
    print("top 50:", ", ".join(f"{noun} {n}" for noun, n in kept.most_common(50)))
    print("stopped:", ", ".join(f"{noun} {n}" for noun, n in dropped.most_common(30)))
    return two_processes(captions, parser, rounds=1)


if __name__ == "__main__":
    main()
