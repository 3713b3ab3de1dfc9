"""How often a deliberation does what it does again and again: less often where a process has many."""

from typing import NamedTuple


class Pace(NamedTuple):
    """Every `least` seconds; with many deliberations every `each` seconds times their number, up to `most`.

    So all of them together have a bounded part of the process's time, until `most` is reached.
    """

    least: float
    each: float
    most: float

    def seconds(self, count: int) -> float:
        """Between two times, where the process has so many deliberations."""
        return min(self.most, max(self.least, count * self.each))


FRAME = Pace(0.1, 0.006, 0.5)
"""Between two frames of text that grows. Each takes about a millisecond."""
CHECKPOINT = Pace(1.0, 0.04, 3.0)
"""Between two writings of it."""
