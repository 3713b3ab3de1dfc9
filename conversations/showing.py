"""What a turn's fragments show. Plain values; the templates decide nothing but wording and place."""

from dataclasses import dataclass
from datetime import datetime

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from conversations.cards import CardView, SeatView, drawn
from conversations.models import Turn
from conversations.naming import slot_value
from council.core.values import CHAIRMAN, Mode, Outcome, Slot, Stage, Status
from council.models import Deliberation


@dataclass(frozen=True, slots=True)
class StageView:
    """A stop on the rail: done, current, waiting or skipped; how many of how many."""

    stage: str
    name: str
    state: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One reviewer's place for one answer. `step`: 1 (best) to 5, or None. `far`: two or more from the median."""

    place: str
    step: int | None
    own: bool
    far: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One reviewer's ballot over all answers."""

    reviewer: SeatView
    cells: tuple[Cell, ...]
    state: str
    reason: str
    review: str


@dataclass(frozen=True, slots=True)
class StandingView:
    """A row of the standings."""

    place: int
    seat: SeatView
    mean: float
    ballots: int


@dataclass(frozen=True, slots=True)
class TurnView:
    """Everything that a turn shows.

    `watched`: the stage whose cards people watch; empty where it has not begun, or none of it is in the main place.
    `rewrite`: the chairman may be asked (again). `copied`: it is part of a copy too, and stays as it is.
    """

    id: str
    turn: Turn
    deliberation: Deliberation
    question: str
    members: list[SeatView]
    chairman: SeatView
    stages: list[StageView]
    answers: list[CardView]
    reviews: list[CardView]
    synthesis: CardView | None
    columns: tuple[SeatView, ...]
    matrix: tuple[MatrixRow, ...]
    standings: tuple[StandingView, ...]
    ballots: int
    dissent: list[SeatView]
    cost: int | None
    seconds: float | None
    watched: str
    rewrite: bool
    copied: bool
    unknown: int = 0
    """Calls that went out and of which nobody knows what came of them."""
    billed: int = 0
    """Those of them whose cost their provider told since."""

    @property
    def unfinished(self) -> bool:
        """The deliberation waits or goes on."""
        return self.deliberation.unfinished

    @property
    def full(self) -> bool:
        """The council goes through all stages."""
        return self.deliberation.mode == Mode.FULL

    @property
    def unpriced(self) -> list[SeatView]:
        """Seats whose models were used, and of which nobody knows what that cost: it is not in the cost."""
        cards = [*self.answers, *self.reviews, *([self.synthesis] if self.synthesis else [])]
        used = [each.seat for each in cards if not each.growing and each.tokens and each.cost is None]
        return list(dict.fromkeys(used))

    @property
    def top(self) -> StandingView | None:
        """The answer that came first; None where several share the first place, or nobody voted."""
        first = [each for each in self.standings if each.place == 1]
        return first[0] if len(first) == 1 else None

    @property
    def best(self) -> CardView | None:
        """What stands in for the council's answer where the chairman wrote none: the top-ranked answer."""
        usable = [each for each in self.answers if not each.growing and not each.bad]
        if self.standings:
            leader = self.standings[0].seat.index
            return next((each for each in usable if each.seat.index == leader), None)
        return usable[0] if len(usable) == 1 else None

    @property
    def shows(self) -> str:
        """What stands in the main place: waiting, answers, reviews (while they are written), synthesis, or best."""
        if not self.settled:
            return {
                Stage.REVIEWING: "reviews",
                Stage.SYNTHESISING: "synthesis",
            }.get(self.watched, "answers" if self.answers else "waiting")
        if (
            self.synthesis
            and self.synthesis.closed
            and (self.synthesis.state == Outcome.CANCELLED or not self.failed_synthesis)
        ):
            return "synthesis"
        return "best" if self.full and self.best else "answers"

    @property
    def settled(self) -> bool:
        """What stands in the main place has ended; in the evidence something may be tried again."""
        return not self.unfinished or (self.deliberation.retried and not self.watched)

    @property
    def rewrite_slot(self) -> str:
        """How a button names the council's answer."""
        return slot_value(Slot(Stage.SYNTHESISING, CHAIRMAN))

    @property
    def again(self) -> str:
        """The stage of which something was tried again at last, or is just being."""
        return self.deliberation.retry["stage"] if self.deliberation.retry else ""

    @property
    def edition(self) -> str:
        """Of the evidence, which does not change unless something is tried again: the end of its parts' ids."""
        return f"-{self.deliberation.retry['attempt']}" if self.deliberation.retry else ""

    @property
    def place(self) -> str:
        """The id of the main place. Another one for each thing that it shows, so that none turns into the next."""
        kind = self.shows if self.shows == "synthesis" or not self.settled else f"{self.shows}-ended"
        return f"{self.id}-{kind}"

    @property
    def strip_html(self) -> str:
        """The members with how they ended; above whatever comes after their answers."""
        hidden = not self.answers or self.shows == "answers"
        shown = {"id": self.id, "cards": tuple(self.answers), "hidden": hidden}
        if any(card.growing for card in self.answers):
            return render_to_string("conversations/_strip.html", shown)
        return drawn("conversations/_strip.html", get_language(), **shown)

    @property
    def votes(self) -> bool:
        """There are ballots to show."""
        return bool(self.matrix and self.columns)

    @property
    def votes_html(self) -> str:
        """The ballots and what they come to."""
        return drawn(
            "conversations/_votes.html",
            get_language(),
            id=self.id,
            columns=self.columns,
            matrix=self.matrix,
            standings=self.standings,
        )

    @property
    def answers_words(self) -> str:
        """How many answers there are, and how many came to nothing, were cut off, or were stopped with some text."""
        cut = sum(each.state == Outcome.TRUNCATED for each in self.answers)
        stopped = sum(each.state == Outcome.CANCELLED and bool(each.closed) for each in self.answers)
        missing = sum(each.bad for each in self.answers) - stopped
        words = [str(len(self.answers) - missing - stopped)]
        if cut:
            words.append(_("%(count)s cut off") % {"count": cut})
        if stopped:
            words.append(_("%(count)s stopped") % {"count": stopped})
        if missing:
            words.append(_("%(count)s without an answer") % {"count": missing})
        return ", ".join(words)

    @property
    def practice(self) -> bool:
        """A practice model takes part."""
        return self.deliberation.practice

    @property
    def long_question(self) -> str:
        """Whether six lines may not hold it, in the style sheet's words: in any window, or in a narrow one alone."""
        if len(self.question) > 360 or self.question.count("\n") > 5:
            return "long"
        return "long narrow" if len(self.question) > 180 else ""

    @property
    def ended_word(self) -> str:
        """How it ended, in a word, where that needs saying."""
        return ended_word(self.deliberation.status)

    @property
    def failed(self) -> bool:
        """Nothing came of it."""
        return self.deliberation.status == Status.FAILED

    @property
    def stopped(self) -> bool:
        """A person stopped it."""
        return self.deliberation.status == Status.CANCELLED

    @property
    def elapsed(self) -> float:
        """Seconds from the question until now, or until the end."""
        return elapsed_since(self.deliberation.began) if self.seconds is None else self.seconds

    @property
    def announcement(self) -> str:
        """What a screen reader hears when the deliberation comes here."""
        if not self.unfinished:
            return {
                Status.FAILED: _("The deliberation failed."),
                Status.CANCELLED: _("The deliberation was stopped."),
            }.get(Status(self.deliberation.status), _("The council has answered."))
        if self.deliberation.retried and self.settled:
            return _("A part of it is tried again.")
        return {
            Stage.ANSWERING: _("The members write their answers."),
            Stage.REVIEWING: _("Peer review has begun."),
            Stage.SYNTHESISING: _("The council's answer has begun."),
        }.get(self.deliberation.stage, _("The question waits for the council."))

    @property
    def failed_synthesis(self) -> bool:
        """The chairman was asked and wrote nothing that counts."""
        return self.synthesis is not None and self.synthesis.bad


@dataclass(frozen=True, slots=True)
class CouncilView:
    """A council as the composer offers it. `practice`: a practice model sits in it."""

    slug: str
    name: str
    description: str
    practice: bool


def elapsed_since(moment: datetime) -> float:
    """Seconds from then to now."""
    return (timezone.now() - moment).total_seconds()


def ended_word(status: str) -> str:
    """How a deliberation ended, in a word, where that needs saying."""
    return {
        Status.PARTIAL: _("Partial"),
        Status.FAILED: _("Failed"),
        Status.CANCELLED: _("Stopped"),
    }.get(status, "")
