"""Rows of a turn -> what its fragments show. Plain values; the templates decide nothing but wording and place."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from conversations import markdown
from conversations.models import Conversation, Turn
from conversations.naming import rewriter, slot_id
from conversations.reading import TurnRows
from council.core import ballots, prompts
from council.core.aliases import letter, rewrite
from council.core.values import CHAIRMAN, Ballot, BallotState, Mode, Outcome, Plan, Slot, Stage, Status
from council.models import Contribution, Council, Deliberation, Provider, Review

HUES = 5
KEPT = 1000  # finished texts and cards: those of the hundred deliberations that were looked at last

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


def outcome_word(outcome: str) -> str:
    """How an ended call is called on the page."""
    return {
        Outcome.COMPLETE: _("done"),
        Outcome.TRUNCATED: _("cut off"),
        Outcome.REFUSED: _("declined"),
        Outcome.FILTERED: _("filtered"),
        Outcome.EMPTY: _("no text"),
        Outcome.FAILED: _("failed"),
        Outcome.TIMED_OUT: _("too slow"),
        Outcome.CANCELLED: _("stopped"),
    }[Outcome(outcome)]


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
    it stands among the cards that people watch.
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

    @property
    def icon(self) -> str:
        """The icon of its state."""
        return ICONS.get(self.state, "alert")

    @property
    def html(self) -> str:
        """The card. One that has ended is drawn once for everyone who looks."""
        return _draw(self, "") if self.growing else _drawn(self, get_language() or "")

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
    cells: list[Cell]
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
    """Everything that a turn shows."""

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
    columns: list[SeatView]
    matrix: list[MatrixRow]
    standings: list[StandingView]
    ballots: int
    dissent: list[SeatView]
    cost: int | None
    seconds: float | None

    @property
    def unfinished(self) -> bool:
        """The deliberation waits or goes on."""
        return self.deliberation.unfinished

    @property
    def full(self) -> bool:
        """The council goes through all stages."""
        return self.deliberation.mode == Mode.FULL

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
        if self.unfinished:
            return {
                Stage.REVIEWING: "reviews",
                Stage.SYNTHESISING: "synthesis",
            }.get(self.deliberation.stage, "answers" if self.answers else "waiting")
        if (
            self.synthesis
            and self.synthesis.closed
            and (self.synthesis.state == Outcome.CANCELLED or not self.failed_synthesis)
        ):
            return "synthesis"
        return "best" if self.full and self.best else "answers"

    @property
    def place(self) -> str:
        """The id of the main place. Another one for each thing that it shows, so that none turns into the next."""
        kind = self.shows if self.shows == "synthesis" or self.unfinished else f"{self.shows}-ended"
        return f"{self.id}-{kind}"

    @property
    def votes(self) -> bool:
        """There are ballots to show."""
        return bool(self.matrix and self.columns)

    @property
    def answers_words(self) -> str:
        """How many answers there are, and how many came to nothing or were cut off."""
        cut = sum(each.state == Outcome.TRUNCATED for each in self.answers)
        missing = sum(each.bad for each in self.answers)
        words = [str(len(self.answers) - missing)]
        if cut:
            words.append(_("%(count)s cut off") % {"count": cut})
        if missing:
            words.append(_("%(count)s without an answer") % {"count": missing})
        return ", ".join(words)

    @property
    def practice(self) -> bool:
        """A practice model takes part."""
        return self.deliberation.practice

    @property
    def long_question(self) -> bool:
        """Six lines may not hold it."""
        return len(self.question) > 360 or self.question.count("\n") > 5

    @property
    def ended_word(self) -> str:
        """How it ended, in a word, where that needs saying."""
        return ended_words(self.deliberation)

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
        return elapsed_since(self.deliberation.created) if self.seconds is None else self.seconds

    @property
    def announcement(self) -> str:
        """What a screen reader hears when the deliberation comes here."""
        if not self.unfinished:
            return {
                Status.FAILED: _("The deliberation failed."),
                Status.CANCELLED: _("The deliberation was stopped."),
            }.get(Status(self.deliberation.status), _("The council has answered."))
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


def council_view(council: Council) -> CouncilView:
    """A council whose seats are prefetched with their models and providers."""
    kinds = {seat.language_model.provider.kind for seat in council.seats.all()}
    return CouncilView(council.slug, council.name, council.description, Provider.Kind.PRACTICE in kinds)


def by_age(conversations: Iterable[Conversation], zone: tzinfo) -> list[tuple[str, list[Conversation]]]:
    """The history in groups, by the days of a reader in this zone."""
    today = timezone.localdate(timezone=zone)
    groups: dict[str, list[Conversation]] = {}
    for each in conversations:
        days = (today - timezone.localdate(each.updated, zone)).days
        label = _("Today") if days < 1 else _("Yesterday") if days < 2 else _("Last 7 days") if days < 8 else _("Older")
        groups.setdefault(label, []).append(each)
    return list(groups.items())


def turn_id(deliberation: Deliberation) -> str:
    """The id of a turn on the page, and the start of all ids inside it."""
    return f"d{deliberation.id.hex[:12]}"


def view(rows: TurnRows) -> TurnView:
    """A turn as it shows."""
    deliberation = rows.deliberation
    plan = Plan.from_json(deliberation.plan)
    members = [_seat(deliberation, plan, index) for index in range(len(plan.members))]
    chairman = _seat(deliberation, plan, CHAIRMAN)
    answers = _cards(deliberation, plan, members, Stage.ANSWERING, rows.answers)
    reviews = _cards(deliberation, plan, members, Stage.REVIEWING, rows.reviews)
    synthesis = rows.synthesis
    standings = [
        StandingView(each["place"], members[each["seat"]], each["mean"], each["ballots"])
        for each in deliberation.standings
    ]
    columns = [each.seat for each in answers if not each.growing and not each.bad]
    matrix = _matrix(members, columns, rows.reviews)
    return TurnView(
        id=turn_id(deliberation),
        turn=rows.turn,
        deliberation=deliberation,
        question=plan.question,
        members=members,
        chairman=chairman,
        stages=_stages(deliberation, plan, answers, reviews),
        answers=answers,
        reviews=reviews,
        synthesis=_card(deliberation, plan, chairman, Stage.SYNTHESISING, synthesis) if synthesis else None,
        columns=columns,
        matrix=matrix,
        standings=standings,
        ballots=sum(row.state in {BallotState.VALID, BallotState.REPAIRED} for row in matrix),
        dissent=_dissent(members, standings, rows.reviews),
        cost=rows.cost,
        seconds=deliberation.elapsed.total_seconds() if deliberation.elapsed else None,
    )


def _seat(deliberation: Deliberation, plan: Plan, index: int) -> SeatView:
    seat = plan.chairman if index == CHAIRMAN else plan.members[index]
    model = deliberation.plan["models"][index]
    return SeatView(
        index=index,
        letter="" if index == CHAIRMAN else letter(index),
        name=markdown.clean(seat.name),
        model=markdown.clean(model["name"]),
        practice=model["practice"],
        hue=0 if index == CHAIRMAN else index % HUES + 1,
    )


def _cards(deliberation: Deliberation, plan: Plan, members: list[SeatView], stage: Stage, rows: Any) -> list[CardView]:
    return [_card(deliberation, plan, members[row.seat], stage, row) for row in rows]


def _card(deliberation: Deliberation, plan: Plan, seat: SeatView, stage: Stage, row: Any) -> CardView:
    slot = Slot(stage, seat.index)
    growing = row.state != Contribution.State.ENDED
    text = ballots.critique(row.text) if stage is Stage.REVIEWING else row.text
    if growing:
        closed_blocks, tail = markdown.blocks(text, rewriter(plan, slot))
        closed, open_ = "".join(closed_blocks), tail
    else:
        labels = {} if stage is Stage.ANSWERING else prompts.to_letters(plan, seat.index)
        closed, open_ = _finished(text, tuple(labels.items())), ""
    return CardView(
        id=slot_id(deliberation.id, slot),
        seat=seat,
        state=row.state if growing else row.outcome,
        word=row.get_state_display() if growing else outcome_word(row.outcome),
        closed=closed,
        open=open_,
        error=row.error,
        growing=growing,
        started=row.started,
        seconds=row.seconds,
        tokens=row.output_tokens or row.tokens,
        cost=row.cost,
        estimated=row.estimated,
        revision=row.revision,
        stage=stage,
        current=deliberation.unfinished and deliberation.stage == stage,
        **(_ballot(row) if stage is Stage.REVIEWING else {}),
    )


def _draw(card: CardView, _language: str) -> str:
    return render_to_string("conversations/_card.html", {"card": card})


_drawn = lru_cache(maxsize=KEPT)(_draw)


@lru_cache(maxsize=KEPT)
def _finished(text: str, labels: tuple[tuple[str, str], ...]) -> str:
    """A text that will not change any more, rendered once for everyone who looks."""
    names = dict(labels)
    return markdown.render(text, (lambda source: rewrite(source, names)) if names else None)


def _ballot(row: Review) -> dict[str, str]:
    order = " > ".join(" = ".join(letter(seat) for seat in group) for group in row.ballot)
    return {"ballot_state": row.ballot_state, "ballot_reason": row.ballot_reason, "ballot": order}


def _stages(
    deliberation: Deliberation, plan: Plan, answers: list[CardView], reviews: list[CardView]
) -> list[StageView]:
    total = len(plan.members)
    stops = [(Stage.ANSWERING, _("Answers"), sum(not each.growing for each in answers), total)]
    if deliberation.mode == Mode.FULL:
        stops.append((Stage.REVIEWING, _("Peer review"), sum(not each.growing for each in reviews), total))
        stops.append((Stage.SYNTHESISING, _("Council's answer"), 0, 1))
    order = [stage for stage, *_rest in stops]
    reached = order.index(Stage(deliberation.stage)) if deliberation.stage else -1
    views = []
    for place, (stage, name, done, of) in enumerate(stops):
        if deliberation.unfinished:
            state = "done" if place < reached else "current" if place == max(reached, 0) else "waiting"
        else:
            state = "done" if place <= reached else "skipped"
        views.append(StageView(stage, name, state, done, of))
    return views


def _matrix(members: list[SeatView], columns: list[SeatView], reviews: list[Review]) -> list[MatrixRow]:
    positions = {row.seat: _positions(row) for row in reviews}
    rows = []
    for row in reviews:
        if row.state != Contribution.State.ENDED:
            continue
        cells = []
        for column in columns:
            place = positions[row.seat].get(column.index)
            others = sorted(each[column.index] for each in positions.values() if column.index in each)
            far = place is not None and len(others) > 2 and abs(place - others[len(others) // 2]) >= 2
            step = None if place is None else 1 + round((place - 1) * 4 / max(1, len(columns) - 1))
            cells.append(Cell("" if place is None else f"{place:g}", step, column.index == row.seat, far))
        review = slot_id(row.deliberation_id, Slot(Stage.REVIEWING, row.seat))
        rows.append(MatrixRow(members[row.seat], cells, row.ballot_state, row.ballot_reason, review))
    return rows


def _positions(row: Review) -> dict[int, float]:
    if row.ballot_state not in {BallotState.VALID, BallotState.REPAIRED}:
        return {}
    return Ballot(tuple(tuple(group) for group in row.ballot), BallotState(row.ballot_state)).positions()


def _dissent(members: list[SeatView], standings: list[StandingView], reviews: list[Review]) -> list[SeatView]:
    """Reviewers who put an answer first that is not first in the standings."""
    first = {each.seat.index for each in standings if each.place == 1}
    return [members[row.seat] for row in reviews if row.ballot and _positions(row) and not first & set(row.ballot[0])]


def elapsed_since(moment: datetime) -> float:
    """Seconds from then to now."""
    return (timezone.now() - moment).total_seconds()


def ended_words(deliberation: Deliberation) -> str:
    """How a deliberation ended, in a word, where that needs saying."""
    return (
        {
            Status.COMPLETE: "",
            Status.PARTIAL: _("Partial"),
            Status.FAILED: _("Failed"),
            Status.CANCELLED: _("Stopped"),
        }.get(Status(deliberation.status), "")
        if not deliberation.unfinished
        else ""
    )
