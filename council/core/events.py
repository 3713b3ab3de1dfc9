"""What a deliberation tells while it goes on. `emit` records each and then shows it.

Text that grows is no event: it comes too often, and goes from the call to whoever keeps and shows it.
"""

from dataclasses import dataclass

from council.core.values import Answer, Reply, Review, Slot, Stage, Standing, Status, Synthesis


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage began; these members have a call in it."""

    stage: Stage
    seats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StandInAsked:
    """A slot's model failed, and one of the plan's fallback models is asked in its place: it begins afresh.

    `own`: how far its own model came.
    """

    slot: Slot
    stand_in: int
    own: Reply


@dataclass(frozen=True, slots=True)
class AnswerFinished:
    """A member's answer ended, well or not."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class ReviewFinished:
    """A member's review ended, well or not."""

    review: Review


@dataclass(frozen=True, slots=True)
class StandingsReady:
    """All reviews are in and counted."""

    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class SynthesisFinished:
    """The chairman ended, well or not."""

    synthesis: Synthesis


@dataclass(frozen=True, slots=True)
class Ended:
    """The deliberation is over; `reason` says why where it is not complete."""

    status: Status
    reason: str = ""


Event = StageStarted | StandInAsked | AnswerFinished | ReviewFinished | StandingsReady | SynthesisFinished | Ended
