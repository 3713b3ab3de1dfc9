"""A conversation as a document: JSON for programs, Markdown for people. docs/export.md describes both.

The Markdown is made of nothing but what the JSON has. Whoever calls has asked whether its reader may see it.
"""

import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations import cards, presenting, results, showing
from conversations.models import Conversation, Turn
from conversations.quoting import inline, quoted
from conversations.templatetags.figures import money, seconds
from council.core.aliases import letter
from council.core.values import BallotState, Mode, Outcome, Status
from council.models import Deliberation

VERSION = 1
NAME_CHARACTERS = 50

_USABLE = {Outcome.COMPLETE, Outcome.TRUNCATED}
_COUNTS = {BallotState.VALID, BallotState.REPAIRED}


class Format(NamedTuple):
    """How a document is called and made."""

    suffix: str
    content_type: str
    text: Callable[[dict[str, Any]], str]


def document(conversation: Conversation) -> dict[str, Any]:
    """All of a conversation as plain values: the content of its JSON. Times are ISO 8601, in UTC."""
    turns = conversation.turns.select_related("deliberation__synthesis").prefetch_related(
        "deliberation__answers", "deliberation__reviews"
    )
    return {
        "version": VERSION,
        "id": str(conversation.pk),
        "title": conversation.title,
        "created": _iso(conversation.created),
        "updated": _iso(conversation.updated),
        "turns": [_turn(turn) for turn in turns],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    deliberation = turn.deliberation
    plan, models = deliberation.plan, deliberation.plan["models"]
    return {
        "asked": _iso(turn.created),
        "finished": _iso(deliberation.finished) if deliberation.finished else None,
        "status": deliberation.status,
        "reason": deliberation.reason,
        "mode": deliberation.mode,
        "members": [
            {"seat": letter(place), "name": seat["name"], "model": models[place]["name"]}
            for place, seat in enumerate(plan["members"])
        ],
        **results.as_json(deliberation),
        "dissent": [letter(seat) for seat in presenting.dissenting(deliberation, list(deliberation.reviews.all()))],
    }


def as_json(said: dict[str, Any]) -> str:
    """The document as JSON."""
    return results.written(said) + "\n"


def as_markdown(said: dict[str, Any]) -> str:
    """The document as Markdown. What people and models wrote stands in it and cannot become a part of it."""
    turns = said["turns"]
    count = ngettext("%(count)s question", "%(count)s questions", len(turns)) % {"count": len(turns)}
    parts = [f"# {inline(said['title'])}", f"{said['created']} · {count}"]
    for number, turn in enumerate(turns, 1):
        parts += _turn_parts(number, turn)
    return "\n\n".join(part for part in parts if part) + "\n"


FORMATS = {
    "markdown": Format("md", "text/markdown; charset=utf-8", as_markdown),
    "json": Format("json", "application/json", as_json),
}


def file_name(conversation: Conversation, form: Format) -> str:
    """A file name that any system takes: words of the title, and the day, so that it is never the name of a device."""
    letters = (each if unicodedata.category(each)[0] in "LMN" else " " for each in conversation.title)
    title = "-".join("".join(letters).split())[:NAME_CHARACTERS].strip("-") or "conversation"
    return f"{title}-{conversation.created:%Y-%m-%d}.{form.suffix}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _turn_parts(number: int, turn: dict[str, Any]) -> Iterator[str]:
    facts = [turn["asked"], inline(turn["council"])]
    if turn["mode"] == Mode.ANSWERS:
        facts.append(_("Answers only"))
    if turn["practice"]:
        facts.append(_("practice model"))
    yield _heading(2, _("Question %(number)s") % {"number": number})
    yield " · ".join(facts)
    yield quoted(turn["question"])
    yield _state(turn)
    stand_in = _stand_in(turn)
    if _answered(turn):
        yield _heading(3, _("Council's answer"))
        yield _byline(_chairman(turn), turn["chairman"])
        yield quoted(turn["synthesis"])
    elif stand_in:
        only = _("The only finished answer") if turn["status"] == Status.CANCELLED else _("The only answer")
        yield _heading(3, _("Top-ranked answer") if turn["standings"] else only)
        if turn["standings"]:
            yield _("The reviewers ranked this answer first; it stands in for the council's.")
        yield _byline(_seat(turn, stand_in["seat"]), stand_in)
        yield quoted(stand_in["text"])
    if not _answered(turn) and turn["chairman"]["outcome"]:
        yield _heading(3, _("What the chairman had written"))
        yield _byline(_chairman(turn), turn["chairman"])
        yield quoted(turn["synthesis"]) if turn["synthesis"] else ""
    yield from _verdict(turn)
    if turn["answers"]:
        yield _heading(3, _("Answers"))
    for answer in turn["answers"]:
        yield _heading(4, _seat(turn, answer["seat"]))
        yield _byline("", answer)
        yield quoted(answer["text"]) if answer["text"] else ""
    if turn["reviews"]:
        yield _heading(3, _("Peer review"))
    for review in turn["reviews"]:
        yield _heading(4, _seat(turn, review["seat"]))
        yield _byline("", review)
        yield quoted(review["text"]) if review["text"] else ""
        yield _ballot(review["ballot"])


def _heading(level: int, words: str) -> str:
    return f"{'#' * level} {words}"


def _state(turn: dict[str, Any]) -> str:
    """How the deliberation stands, where it is not simply done."""
    if turn["status"] in Deliberation.UNFINISHED:
        return f"**{_('Unfinished')}.** {_('The council was still at work on this question when it was exported.')}"
    word = showing.ended_word(turn["status"])
    return f"**{word}.** {inline(turn['reason'])}".strip() if word else ""


def _answered(turn: dict[str, Any]) -> bool:
    """What the chairman wrote is the council's answer, be it cut off, stopped or still growing."""
    outcome = turn["chairman"]["outcome"]
    return bool(turn["synthesis"]) and (not outcome or outcome in {*_USABLE, Outcome.CANCELLED})


def _stand_in(turn: dict[str, Any]) -> dict[str, Any] | None:
    """The answer that stands for the council's where the chairman wrote none: the top-ranked, or the only one."""
    if turn["mode"] == Mode.ANSWERS or turn["status"] in Deliberation.UNFINISHED:
        return None
    usable = {each["seat"]: each for each in turn["answers"] if each["outcome"] in _USABLE}
    if turn["standings"]:
        return usable.get(turn["standings"][0]["seat"])
    return next(iter(usable.values())) if len(usable) == 1 else None


def _seat(turn: dict[str, Any], seat: str) -> str:
    """A member by letter, name and model."""
    return next(f"{seat} · {_named(each)}" for each in turn["members"] if each["seat"] == seat)


def _chairman(turn: dict[str, Any]) -> str:
    return _("Written by AI, %(name)s") % {"name": _named(turn["chairman"])}


def _named(seat: dict[str, Any]) -> str:
    name, model = inline(seat["name"]), inline(seat["model"])
    return name if name == model else f"{name} ({model})"


def _byline(who: str, call: dict[str, Any]) -> str:
    """Who wrote, how it ended where that needs saying, and what it took."""
    facts = [who] if who else []
    if call.get("stand_in"):
        facts.append(_("%(model)s in its place") % {"model": inline(call["stand_in"])})
    if call["outcome"] != Outcome.COMPLETE:
        facts.append(cards.outcome_word(call["outcome"]) if call["outcome"] else _("not finished"))
    facts += [seconds(call.get("seconds")), money(call.get("cost"))]
    line = " · ".join(filter(None, facts))
    return f"{line}: {inline(call['error'])}" if call["error"] else line


def _ballot(ballot: dict[str, Any]) -> str:
    words = {
        BallotState.VALID: _("Ballot"),
        BallotState.REPAIRED: _("Ballot, mended"),
        BallotState.INVALID: _("Invalid ballot"),
        BallotState.ABSTAINED: _("No ballot"),
    }.get(ballot["state"], "")
    order = " > ".join(" = ".join(group) for group in ballot["ranking"])
    said = ": ".join(filter(None, [words, inline(order)]))
    return f"{said} ({inline(ballot['reason'])})" if ballot["reason"] else said


def _verdict(turn: dict[str, Any]) -> Iterator[str]:
    """What the votes came to, who dissents, and what it cost."""
    ballots = [each["ballot"]["state"] for each in turn["reviews"]]
    first = [each["seat"] for each in turn["standings"] if each["place"] == 1]
    facts = []
    if ballots:
        counted = sum(state in _COUNTS for state in ballots)
        counts = _("%(counted)s of %(all)s") % {"counted": counted, "all": len(ballots)}
        facts.append((_("Ballots that count"), counts))
    if turn["standings"]:
        dissent = ", ".join(_seat(turn, seat) for seat in turn["dissent"]) or _("none")
        facts.append((_("Top-ranked"), ", ".join(_seat(turn, seat) for seat in first)))
        facts.append((_("Dissenting reviewers"), dissent))
    if turn["cost"] is not None:
        facts.append((_("Cost"), money(turn["cost"])))
    if turn["seconds"] is not None:
        facts.append((_("Time"), seconds(turn["seconds"])))
    if turn["unknown_calls"]:
        facts.append((_("Calls with an unknown result"), str(turn["unknown_calls"])))
    if facts:
        yield _heading(3, _("Verdict"))
        yield "\n".join(f"- {name}: {value}" for name, value in facts)
    if turn["standings"]:
        head = [_("Place"), _("Standing"), _("Mean place"), _("Ballots")]
        rows = [
            [str(each["place"]), _seat(turn, each["seat"]), f"{each['mean']:.2f}", str(each["ballots"])]
            for each in turn["standings"]
        ]
        yield "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---:", "---", "---:", "---:"], *rows])
