"""One slot of a deliberation that has ended, tried again: which slots that is offered for, and what stays meanwhile.

`council.claiming.reopen` does it. The rest of the deliberation stays as it is: what is written already is not written
again, and stages that were left out for want of answers are gone through once there are enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import DateTimeField

from council.call_rows import usage_columns
from council.core.aliases import letter
from council.core.deliberate import could_answer
from council.core.values import CHAIRMAN, Mode, Outcome, Reply, Slot, Stage, Status, Usage
from council.models import Answer, Contribution, Review, Synthesis
from council.written import DeliberationRows, with_values

_IN_VAIN = "Tried again without success: "
_USABLE = {Outcome.COMPLETE, Outcome.TRUNCATED}

# What a slot is emptied of, and what it has when it is empty.
EMPTY: dict[str, Any] = {
    "outcome": "",
    "error": "",
    "text": "",
    "first_token": None,
    "finished": None,
    "tokens": 0,
    "input_tokens": None,
    "output_tokens": None,
    "cost": None,
    "estimated": False,
    "stand_in": None,
}
_MORE: dict[type[Contribution], dict[str, Any]] = {
    Answer: {},
    Review: {"ballot": [], "ballot_state": "", "ballot_reason": "", "saw": None},
    Synthesis: {"saw": None},
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A slot that may be tried again.

    `late`: it ended well, but was written before the answers of these seats came, or, where `reviews`, their reviews.
    """

    late: tuple[int, ...] = ()
    reviews: bool = False


def usable(row: Contribution) -> bool:
    """There is something to read in it, be it cut off."""
    return row.state == Contribution.State.ENDED and row.outcome in _USABLE and bool(row.text.strip())


def offers(rows: DeliberationRows) -> dict[Slot, Offer]:
    """The slots that may be tried again once the deliberation has ended: what is not complete, and what is outdated."""
    answers = [row for row in rows.answers if row.state == Contribution.State.ENDED]
    found = {Slot(Stage.ANSWERING, row.seat): Offer() for row in answers if row.outcome != Outcome.COMPLETE}
    if rows.deliberation.mode != Mode.FULL or sum(usable(row) for row in answers) < 2:
        return found
    asked = {row.seat for row in answers if could_answer(Outcome(row.outcome))}
    reviews = [row for row in rows.reviews if row.state == Contribution.State.ENDED]
    for row in reviews:
        if row.seat in asked and (offer := _offer(row, answers, [])):
            found[Slot(Stage.REVIEWING, row.seat)] = offer
    synthesis = rows.synthesis
    if synthesis is None:
        if not rows.deliberation.unfinished:
            found[Slot(Stage.SYNTHESISING, CHAIRMAN)] = Offer()
    elif synthesis.state == Contribution.State.ENDED and (offer := _offer(synthesis, answers, reviews)):
        found[Slot(Stage.SYNTHESISING, CHAIRMAN)] = offer
    return found


def _offer(row: Contribution, answers: Sequence[Answer], reviews: Sequence[Review]) -> Offer | None:
    """For a slot whose prompt is made of these."""
    if row.outcome != Outcome.COMPLETE:
        return Offer()
    for read in (answers, reviews):
        if late := [each.seat for each in read if usable(each) and _after(each.finished, row.started)]:
            return Offer(tuple(late), reviews=read is reviews)
    return None


def _after(one: datetime | None, other: datetime | None) -> bool:
    return bool(one and other and one > other)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a slot had before it began afresh: tried again, or with a fallback model once its own broke off."""

    model: type[Contribution]
    values: Mapping[str, Any]

    @property
    def tried_again(self) -> bool:
        """All that it had is kept, for a person has it tried again; else what its own model wrote alone."""
        return "started" in self.values

    @property
    def reply(self) -> Reply:
        """As the reply that it was."""
        usage = None
        if self.values["input_tokens"] is not None and self.values["output_tokens"] is not None:
            figures = (self.values[name] for name in ("input_tokens", "output_tokens", "cost", "estimated"))
            usage = Usage(*figures)
        saw = self.values.get("saw")
        outcome = Outcome(self.values["outcome"])
        said = (self.values["text"], outcome, self.values["error"], usage)
        return Reply(*said, stand_in=self.values["stand_in"], saw=_seats(saw), kept=True)

    def or_better(self, reply: Reply) -> Reply:
        """The new reply, where it is better; else this one, with words about the new one."""
        had = self.reply
        return reply if better(reply, had) else replace(had, error=self.in_vain(reply.error))

    def in_vain(self, why: str) -> str:
        """Its error, with words about a try that brought nothing; those about one before that go."""
        before = str(self.values["error"]).partition(_IN_VAIN)[0].strip()
        return f"{before} {_IN_VAIN}{why}".strip()

    def columns(self, error: str) -> dict[str, Any]:
        """The columns that give it back, with this error."""
        given = {"state": Contribution.State.ENDED.value, "earlier": None}
        for name, value in self.values.items():
            field = self.model._meta.get_field(name)
            given[name] = field.to_python(value) if isinstance(field, DateTimeField) else value
        return {**given, "error": error}


def better(new: Reply, had: Reply) -> bool:
    """A whole text is better than one that was cut off, and of two that were, the longer; any is better than none."""
    if new.usable and had.usable:
        longer = len(new.text) > len(had.text)
        return new.outcome is Outcome.COMPLETE or (longer and had.outcome is Outcome.TRUNCATED)
    return new.usable or (bool(new.text.strip()) and not had.text.strip())


def keep(row: Contribution) -> Kept:
    """What the slot has."""
    names = ("started", *EMPTY, *_MORE[type(row)])
    values = {name: getattr(row, name) for name in names}
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
    return Kept(type(row), plain)


def broke_off(model: type[Contribution], own: Reply, now: datetime) -> Kept:
    """What a slot's own model wrote before it broke off, for as long as another is asked in its place."""
    ended = {"outcome": own.outcome.value, "error": own.error, "text": own.text, "finished": now.isoformat()}
    return Kept(model, {**EMPTY, **ended, **usage_columns(own.usage)})


def kept(row: Contribution) -> Kept | None:
    """What it had before it began afresh; None where it did not."""
    return None if row.earlier is None else Kept(type(row), row.earlier)


def tried_in_vain(error: str) -> str:
    """What a slot's error says of a try that brought nothing; empty where there was none."""
    return "".join(error.partition(_IN_VAIN)[1:])


def emptied(row: Contribution, now: datetime) -> dict[str, Any]:
    """The columns of a slot that waits to be filled again; what it had is kept."""
    empty = {**EMPTY, **_MORE[type(row)], "state": Contribution.State.WAITING.value, "started": now}
    return {**empty, "earlier": dict(keep(row).values)}


def reply_of(row: Contribution) -> Reply:
    """What is recorded of a slot that has ended."""
    saw = _seats(getattr(row, "saw", None))
    return Reply(row.text, Outcome(row.outcome), row.error, stand_in=row.stand_in, saw=saw)


def _seats(saw: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if saw is None else tuple(saw)


def given_back(retry: Mapping[str, Any], status: Status) -> dict[str, Any]:
    """The columns of a deliberation that is as it was, because a try was ended with this status before it came."""
    slot = Slot(Stage(retry["stage"]), retry["seat"])
    who = "The chairman" if slot.seat == CHAIRMAN else letter(slot.seat)
    again = f"{who} was asked to review again" if slot.stage is Stage.REVIEWING else f"{who} was asked again"
    why = "was stopped" if status is Status.CANCELLED else "went wrong on this site's side"
    before = retry["reason"].partition(again)[0].strip()
    return {**retry["before"], "reason": f"{before} {again}; that {why}, and what there was before is kept.".strip()}


def settled(rows: DeliberationRows) -> DeliberationRows:
    """The rows without what is just being tried again: what has ended, and what stood there before."""
    retry = rows.deliberation.retry
    if retry is None or not rows.deliberation.unfinished:
        return rows
    synthesis = _settled([rows.synthesis] if rows.synthesis else [])
    return replace(
        rows,
        deliberation=with_values(rows.deliberation, retry["before"]),
        answers=_settled(rows.answers),
        reviews=_settled(rows.reviews),
        synthesis=synthesis[0] if synthesis else None,
    )


def _settled(rows: Iterable[Any]) -> list[Any]:
    found = []
    for row in rows:
        if row.state == Contribution.State.ENDED:
            found.append(row)
        elif (had := kept(row)) and had.tried_again:
            found.append(with_values(row, had.columns(had.values["error"])))
    return found
