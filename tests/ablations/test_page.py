"""The page of the ablations: what it says of the time they took."""

import json

from ovseg.ablations.page import _computed


def test_what_the_tracking_copied_is_not_counted_again(tmp_path):
    def took(folder: str, **seconds: float) -> None:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").write_text(json.dumps({"seconds": seconds}))

    took("seed-0/benchmarks/aa", first=40.0, second=20.0)
    took("seed-1/tables/pairs/bb", only=30.0)
    took("study/cc", only=5.0)
    took("mlartifacts/dd/artifacts", only=60.0)
    assert _computed(tmp_path) == 95
