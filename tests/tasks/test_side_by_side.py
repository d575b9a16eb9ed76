"""Jobs in threads: order, results passed on, the first error, the caller's context."""

import contextvars
import threading

import pytest

from tasks.side_by_side import Jobs

flavor = contextvars.ContextVar("flavor", default="none")


def test_a_job_takes_the_results_of_others():
    jobs = Jobs()
    two = jobs.add(lambda: 2)
    three = jobs.add(lambda a, b: a + b, two, 1)
    product = jobs.add(lambda a, b: a * b, two, three)
    jobs.run(workers=2)
    assert product.result == 6


def test_jobs_run_at_the_same_time_and_no_more_than_allowed():
    jobs, together = Jobs(), threading.Barrier(2)
    lock, running, most = threading.Lock(), [0], [0]

    def meet() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(timeout=30)  # breaks unless two are running
        with lock:
            running[0] -= 1

    for _ in range(4):
        jobs.add(meet)
    jobs.run(workers=2)
    assert most[0] == 2


def test_the_job_added_first_starts_first():
    jobs, started = Jobs(), []
    first = jobs.add(started.append, "train")
    jobs.add(lambda _: started.append("train on"), first)
    jobs.add(lambda _: started.append("score"), first)
    jobs.add(started.append, "unrelated")
    jobs.run(workers=1)
    assert started == ["train", "train on", "score", "unrelated"]


def test_the_first_error_is_raised_and_nothing_else_is_started():
    jobs, started = Jobs(), []

    def fail() -> None:
        raise ValueError("diverged")

    failed = jobs.add(fail)
    jobs.add(lambda _: started.append("after"), failed)
    jobs.add(started.append, "later")
    with pytest.raises(ValueError, match="diverged"):
        jobs.run(workers=1)
    assert started == []


def test_a_job_runs_in_the_context_of_its_caller():
    jobs = Jobs()
    seen = jobs.add(flavor.get)
    token = flavor.set("vanilla")
    try:
        jobs.run(workers=2)
    finally:
        flavor.reset(token)
    assert seen.result == "vanilla"


def test_a_job_that_waits_for_one_of_others_is_an_error_instead_of_a_wait():
    jobs, elsewhere = Jobs(), Jobs()
    jobs.add(lambda result: result, elsewhere.add(lambda: 1))
    with pytest.raises(ValueError, match="was not added"):
        jobs.run(workers=1)
