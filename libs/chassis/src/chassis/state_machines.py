"""Runs state machines of hypothesis as tests: the same examples in every run, and other ones when a seed is given."""

import os
from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SEED = "KOPILKA_STATE_SEED"  # the environment variable with which `make check-long` asks for other examples
LONGER = 5


def run(factory: Callable[[], RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Run so many examples of so many steps; with a seed five times as many, which the same seed repeats.

    Shrinking a failure takes longer than a test may: add `Phase.shrink` to look for the smallest one.
    """
    seed = os.environ.get(SEED)
    if seed is not None:
        factory = hypothesis.seed(int(seed))(factory)
    run_state_machine_as_test(
        factory,  # type: ignore[arg-type]  # any function that makes a machine will do
        settings=hypothesis.settings(
            max_examples=examples if seed is None else LONGER * examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=seed is None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
