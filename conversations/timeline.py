"""Every attempt at a request that a deliberation made, drawn over time. From rows alone, when somebody looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy

from conversations import markdown, presenting
from conversations.cards import ICONS, SeatView, outcome_word
from conversations.models import Turn
from council.core.values import CHAIRMAN, Outcome, Plan
from council.models import Call, Deliberation

WIDTH = 1000
"""Of the drawing, in its own units: the whole time that is shown."""
LEAST = 4  # units

_PURPOSES = {
    Call.Purpose.ANSWER: gettext_lazy("Answer"),
    Call.Purpose.REVIEW: gettext_lazy("Review"),
    Call.Purpose.SYNTHESIS: gettext_lazy("Council's answer"),
    Call.Purpose.TITLE: gettext_lazy("Title"),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """From when a slot asked for the call until it was sent, from there to its first token, and to its end.

    Places and widths in units.
    """

    queued: int
    stood: int
    sent: int
    waited: int
    first: int
    wrote: int


@dataclass(frozen=True, slots=True)
class CallView:
    """One attempt. `seat` is None for one that fills no slot. Seconds: `stood` until it was sent, else from then.

    One that never went out has neither `first` nor `seconds`.
    """

    purpose: str
    seat: SeatView | None
    model: str
    provider: str
    state: str
    word: str
    error: str
    bar: Bar
    stood: float
    first: float | None
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    estimated: bool
    cost: int | None
    going: bool

    @property
    def icon(self) -> str:
        """The icon of its state."""
        if self.going:
            return "waiting" if self.state == Call.State.QUEUED else "writing"
        return ICONS.get(self.state, "alert")


@dataclass(frozen=True, slots=True)
class Timeline:
    """All calls in the order of their sending, and how long the drawing is, in seconds."""

    calls: tuple[CallView, ...]
    seconds: float
    unfinished: bool


def answer(request: HttpRequest, turn: Turn, title: str) -> HttpResponse:
    """The calls of a turn that the caller has found this person may see: a fragment for htmx, else a page."""
    context = {"timeline": timeline(turn.deliberation), "again": request.path, "turn": turn, "title": title}
    return render(request, "conversations/_calls.html" if request.htmx else "conversations/calls.html", context)


def timeline(deliberation: Deliberation) -> Timeline:
    """The calls of a deliberation as they are now."""
    calls = list(deliberation.calls.all())
    begin, end = deliberation.created, _end(deliberation, calls)
    plan = Plan.from_json(deliberation.plan)
    return Timeline(
        calls=tuple(_view(each, deliberation, plan, begin, end) for each in calls),
        seconds=(end - begin).total_seconds(),
        unfinished=deliberation.unfinished,
    )


def _end(deliberation: Deliberation, calls: Sequence[Call]) -> datetime:
    """Until when it is drawn: now, or the end of the last call, for a title may come after the answer."""
    if deliberation.finished is None:
        return timezone.now()
    return max([deliberation.finished, *(each.ended for each in calls if each.ended)])


def _view(call: Call, deliberation: Deliberation, plan: Plan, begin: datetime, end: datetime) -> CallView:
    going = call.state != Call.State.ENDED
    sent = call.sent or call.ended or end
    return CallView(
        purpose=str(_PURPOSES[Call.Purpose(call.purpose)]),
        seat=_seat(call, deliberation, plan),
        model=markdown.clean(call.model_name),
        provider=markdown.clean(call.provider_name),
        state=call.state if going else call.outcome,
        word=call.get_state_display() if going else outcome_word(call.outcome),
        # That it was stopped is said by its word; that it never went out is not.
        error="" if call.outcome == Outcome.CANCELLED and call.sent and not call.unknown else call.error,
        bar=_bar(call, begin, end),
        stood=(sent - call.queued).total_seconds(),
        first=(call.first_token - sent).total_seconds() if call.first_token else None,
        seconds=(call.ended - sent).total_seconds() if call.ended and call.sent else None,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        estimated=call.estimated,
        cost=call.cost,
        going=going,
    )


def _seat(call: Call, deliberation: Deliberation, plan: Plan) -> SeatView | None:
    if call.purpose == Call.Purpose.SYNTHESIS:
        return presenting.seat_view(deliberation, plan, CHAIRMAN)
    return None if call.seat is None else presenting.seat_view(deliberation, plan, call.seat)


def _bar(call: Call, begin: datetime, end: datetime) -> Bar:
    whole = max(end - begin, timedelta(milliseconds=1))
    over = call.ended or end
    sent = call.sent or over
    queued, sent_at, first, ended = (
        min(max(round((moment - begin) / whole * WIDTH), 0), WIDTH)
        for moment in (call.queued, sent, call.first_token or over, over)
    )
    # What took no time is seen all the same, and at the end of the drawing too.
    ended = min(max(ended, sent_at + LEAST), WIDTH)
    sent_at = min(sent_at, WIDTH - LEAST)
    return Bar(
        queued=min(queued, sent_at),
        stood=max(sent_at - queued, 0),
        sent=sent_at,
        waited=max(first - sent_at, 0),
        first=first,
        wrote=max(ended - first, 0),
    )
