"""Captions per second through the noun extractor: batched, one by one, repeated, on two processes.

python -m bench nouns
"""

import time
from typing import Any

from bench.timing import seconds
from ovseg.mining.nouns.mentions import extract, load_parser
from ovseg.mining.nouns.parsing_team import ParsingTeam
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.stages.threads import fixed_threads
from ovseg.storybook.captions import describe
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds


def main() -> list[dict[str, Any]]:
    """Print captions per second and the ratios."""
    nlp, stop = load_parser("storybook"), StopNouns.load()
    captions = [c for seed in scene_seeds("mining", 60) for c in describe(draw_scene(seed))]
    batched = seconds(lambda: extract(captions, nlp, stop_nouns=stop), runs=3)
    single = seconds(
        lambda: [extract([caption], nlp, stop_nouns=stop) for caption in captions], runs=3
    )
    repeated = seconds(lambda: extract(captions * 4, nlp, stop_nouns=stop), runs=3)
    print(f"  batched            {len(captions) / batched:8.0f} captions/s")
    print(f"  one by one         {len(captions) / single:8.0f} captions/s"
          f"   batched is {single / batched:.1f} x")  # fmt: skip
    print(f"  every one 4 times  {4 * len(captions) / repeated:8.0f} captions/s"
          f"   parsed once: {4 * batched / repeated:.1f} x")  # fmt: skip
    many = [f"{caption} {number}" for number in range(8) for caption in captions]
    return two_processes(many, "storybook")


def two_processes(captions: list[str], parser: str, *, rounds: int = 3) -> list[dict[str, Any]]:
    """Time one process and two in turn, print the ratio of their medians, and return the figure.

    The second process starts in the first round, whose time is printed separately.

    Raises:
        AssertionError: two processes find other nouns.
    """
    nlp, stop = load_parser(parser), StopNouns.load()
    team, spent = ParsingTeam(parser, 2), {1: [], 2: []}
    computed = {1: 0.0, 2: 0.0}  # processor seconds of this process
    try:
        with fixed_threads():
            for number in range(1 + rounds):
                found = []
                for processes, others in ((1, None), (2, team)):
                    began, working = time.perf_counter(), time.process_time()
                    found.append(extract(captions, nlp, stop_nouns=stop, team=others))
                    spent[processes].append(time.perf_counter() - began)
                    computed[processes] += (time.process_time() - working) * (number > 0)
                assert found[0] == found[1]
    finally:
        team.close()
    starting = spent[1][0] / spent[2][0]
    ratio = sorted(one / two for one, two in zip(spent[1][1:], spent[2][1:]))[rounds // 2]
    one, two = (len(captions) / sorted(spent[n][1:])[rounds // 2] for n in (1, 2))
    print(f"  one process        {one:8.0f} captions/s, of {len(captions)}")
    print(f"  two processes      {two:8.0f} captions/s   {ratio:.1f} x, the same nouns;"
          f" {starting:.1f} x with the start of the second")  # fmt: skip
    print(f"  processor time     {computed[1]:8.1f} s for one, {computed[2]:.1f} s in the first of"
          f" two: {computed[1] / computed[2]:.2f} x if both have a core to themselves")  # fmt: skip
    return [
        {
            "what": f"nouns of {len(captions)} captions, by one process and by two",
            "before": one,
            "after": two,
            "unit": "captions/s",
            "ratio": ratio,
            "kind": "byte-equal",
        }
    ]
