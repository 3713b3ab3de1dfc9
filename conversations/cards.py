"""What a card shows: an answer, a review, or the council's answer. Plain values, and what is drawn once for all."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.template.loader import render_to_string
from django.utils.translation import get_language, gettext_lazy

from conversations.naming import slot_value
from council.core.values import BallotState, Outcome, Slot, Stage
from council.models import Contribution

KEPT = 1000  # finished texts and fragments: those of the hundred deliberations that were looked at last

ICONS = {
    Contribution.State.WAITING: "waiting",
    Contribution.State.THINKING: "waiting",
    Contribution.State.WRITING: "writing",
    Outcome.COMPLETE: "check",
    Outcome.TRUNCATED: "cut",
    Outcome.REFUSED: "refused",
    Outcome.FILTERED: "refused",
    Outcome.TIMED_OUT: "clock",
    Outcome.CANCELLED: "stop",
}

_OUTCOMES = {
    Outcome.COMPLETE: gettext_lazy("done"),
    Outcome.TRUNCATED: gettext_lazy("cut off"),
    Outcome.REFUSED: gettext_lazy("declined"),
    Outcome.FILTERED: gettext_lazy("filtered"),
    Outcome.EMPTY: gettext_lazy("no text"),
    Outcome.FAILED: gettext_lazy("failed"),
    Outcome.TIMED_OUT: gettext_lazy("too slow"),
    Outcome.CANCELLED: gettext_lazy("stopped"),
    Outcome.UNKNOWN: gettext_lazy("result unknown"),
}


def outcome_word(outcome: str) -> str:
    """How an ended call is called on the page."""
    return str(_OUTCOMES[outcome])


@dataclass(frozen=True, slots=True)
class SeatView:
    """A seat by name. `hue` is 1 to 5, 0 for the chairman."""

    index: int
    letter: str
    name: str
    model: str
    practice: bool
    hue: int


@dataclass(frozen=True, slots=True)
class CardView:
    """One contribution: an answer, a review, or the council's answer.

    `state` is waiting, thinking, writing, or the outcome; `word` is that for people. While it grows, `closed` is HTML
    that will not change and `open` the rest; once it has ended, `closed` is all of it. `current`: its stage goes on, so
    it stands among the cards that people watch. `stand_in`: the model that was asked in place of the seat's own.
    `retry`: its owner may have it tried again; the style sheet shows that where the deliberation has ended and can
    change. `late`: what came after it was written. `earlier`: what it had before it was tried again, as HTML.
    """

    id: str
    seat: SeatView
    state: str
    word: str
    closed: str
    open: str
    error: str
    growing: bool
    started: datetime | None
    seconds: float | None
    tokens: int
    cost: int | None
    estimated: bool
    revision: int
    stage: str
    current: bool
    ballot_state: str = ""
    ballot_reason: str = ""
    ballot: str = ""
    stand_in: str = ""
    retry: bool = False
    late: str = ""
    earlier: str = ""

    @property
    def slot(self) -> str:
        """How a button names it."""
        return slot_value(Slot(Stage(self.stage), self.seat.index))

    @property
    def icon(self) -> str:
        """The icon of its state."""
        return ICONS.get(self.state, "alert")

    @property
    def html(self) -> str:
        """The card. One that has ended is drawn once for everyone who looks."""
        if self.growing:
            return render_to_string("conversations/_card.html", {"card": self})
        return drawn("conversations/_card.html", get_language(), card=self)

    @property
    def counts(self) -> bool:
        """Its ballot is among the votes."""
        return self.ballot_state in {BallotState.VALID, BallotState.REPAIRED}

    @property
    def good(self) -> bool:
        """It ended well."""
        return self.state == Outcome.COMPLETE

    @property
    def bad(self) -> bool:
        """It ended without a text that counts."""
        return not self.growing and self.state not in {Outcome.COMPLETE, Outcome.TRUNCATED}


@lru_cache(maxsize=KEPT)
def drawn(template: str, _language: str | None, **shown: Any) -> str:
    """A fragment, drawn once for everyone who looks at the same."""
    return render_to_string(template, shown)
