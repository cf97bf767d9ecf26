"""Runs a check on generated inputs: the same few in every run of the tests, and many others for `make fuzz`.

A round has a seed, which is printed with a failure and repeats it. `make fuzz` runs one round after another, each with
the next seed, until the time or the number of rounds is used up.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, strategies

SEED = "KOPILKA_FUZZ_SEED"  # these three are set by `make fuzz`
SECONDS = "KOPILKA_FUZZ_SECONDS"
ROUNDS = "KOPILKA_FUZZ_ROUNDS"
DEFAULT_SEED = 1
LONGER = 5

_tests = 1


def share_time_among(tests: int) -> None:
    """Tell how many tests share the time of this run."""
    globals()["_tests"] = max(tests, 1)


def seeds(runs: int) -> Iterator[int]:
    """Give the seed of each round of one of so many runs of a test: one round, without `make fuzz`."""
    first = int(os.environ.get(SEED, DEFAULT_SEED))
    rounds = int(os.environ.get(ROUNDS, "1"))
    end_at = time.monotonic() + float(os.environ.get(SECONDS, "0")) / _tests / runs
    for number in range(rounds):
        if number and time.monotonic() > end_at:
            return
        yield first + number


def examples_of(examples: int) -> int:
    """Give how many examples a round has."""
    return examples * LONGER if ROUNDS in os.environ else examples


def run(
    check: Callable[[Any], None],
    inputs: strategies.SearchStrategy[Any],
    *,
    examples: int,
    known: Sequence[Any] = (),
    is_shrunk: bool = True,
    runs: int = 1,
) -> None:
    """Check every known input, then generated ones; a failure is shrunk to the smallest input that shows it.

    `runs` is how often the test calls this, each with its part of the time. Without `is_shrunk` the check itself looks
    for the smallest one. Raises what the check raises, with the seed.
    """
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if is_shrunk else [])]
    for seed in seeds(runs):
        test = hypothesis.given(inputs)(check)
        for one in known:
            test = hypothesis.example(one)(test)
        settings = hypothesis.settings(
            max_examples=examples_of(examples),
            deadline=None,
            database=None,
            phases=phases,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            settings(hypothesis.seed(seed)(test))()
        except BaseException as failure:
            failure.add_note(f"repeat with: make fuzz SEED={seed} ROUNDS=1")
            raise
