"""The line that a stage logs at its end: what its shards waited for."""

from ovseg.stages.manifest import ShardRecord
from tasks.run import waits_in_words


def record(index: int, seconds: float | None, waits: dict[str, float]) -> ShardRecord:
    fields = {"path": f"{index}.parquet", "rows": 1, "bytes": 1, "sha256": "0"}
    return ShardRecord(index=index, seconds=seconds, waits=waits, **fields)


def test_waits_of_all_shards_are_shares_of_their_time():
    shards = [
        record(0, 6.0, {"device": 4.5, "decode": 0.5}),
        record(1, 4.0, {"device": 2.6, "write": 0.3}),
    ]
    words = "; waited 71 % on the device, 5 % on decoding, 3 % on writing"
    assert waits_in_words(shards) == words


def test_a_stage_that_waited_for_nothing_says_nothing():
    assert waits_in_words([]) == waits_in_words([record(0, 1.0, {})]) == ""
