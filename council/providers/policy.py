"""The rules for calls that hold for all of them, as plain values: how often, how long, and when a model is left alone.

How long a model may think and write is its own (`LanguageModel`); how long a stage may take, who stands in and how many
are enough its council's; how many calls go out at a time its provider's.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in seconds. What holds where an administrator has decided nothing.

    `attempts`: at what fails before the first byte. `repeats`: after a call that was sent and of which nothing came in
    time, 0 or 1. The rest is the breaker's: it opens after so many `failures` in a row, or where of at least
    `least_calls` in a minute the `share` failed (0 to 1).
    """

    attempts: int = 2
    longest_wait: float = 120.0
    repeats: int = 1
    connect: float = 10.0
    failures: int = 5
    share: float = 0.5
    least_calls: int = 10
    open_for: float = 30.0
