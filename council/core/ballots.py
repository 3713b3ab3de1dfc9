"""Review text -> Ballot, or an abstention with its reason. Prose is never counted as votes.

The ladder: the whole text as JSON; the last fenced JSON that has a ballot; either repaired where it is broken; the
last "FINAL RANKING" header with nothing but exact labels below it; else an abstention.

What is read here was written by a model, and a model may write anything: nothing here raises, and nothing takes long.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jiter
import json_repair

from council.core.values import Ballot, BallotState, Outcome, Reply, clean

ENUMERATE_UP_TO = 4
# Repairing takes time that grows with the square of a bad text: a second for this many characters at the worst.
REPAIR_CHARACTERS = 20_000
REASON_CHARACTERS = 500

_OPENING = re.compile(r"```(?:json)?\s*\{", re.IGNORECASE)
_PERHAPS_OPENING = re.compile(r"(?:`{1,2}|```(?:j|js|jso|json)?\s*)\Z", re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_HEADER = re.compile(r"^[ \t#*_>]*(?:final[ \t]+)?ranking[ \t*_]*(?::[ \t*_]*)?$", re.IGNORECASE | re.MULTILINE)
_ITEM = re.compile(r"(?:\d+[.)]|[-*•])\s+(.+)")


def schema(labels: Sequence[str], *, enumerate_rankings: bool) -> dict[str, Any]:
    """The JSON schema of a ballot over these labels, critique first, so that the verdict follows the reasons.

    With `enumerate_rankings`, and few labels, the schema lists every order: a grammar can then not repeat a label.
    The critique is bounded there as well, because a small model may not find its end.
    """
    critique: dict[str, Any] = {"type": "string"}
    ranking: dict[str, Any] = {
        "type": "array",
        "items": {"type": "array", "items": {"type": "string", "enum": list(labels)}},
    }
    if enumerate_rankings:
        critique["maxLength"] = 600
        if len(labels) <= ENUMERATE_UP_TO:
            ranking = {"enum": [[[label] for label in order] for order in itertools.permutations(labels)]}
    properties = {
        "critique": critique,
        "ranking": ranking,
        "abstain": {"type": "boolean"},
        "reason": {"type": "string", **({"maxLength": 120} if enumerate_rankings else {})},
        "injection_suspected": {"type": "array", "items": {"type": "string", "enum": list(labels)}},
    }
    if enumerate_rankings:
        del properties["injection_suspected"]
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read(reply: Reply, seats: Mapping[str, int]) -> Ballot:
    """The ballot of a review, `seats` being what each label of that reviewer stands for."""
    if not reply.usable:
        return Ballot((), BallotState.ABSTAINED, reply.error or "There is no review to read a ballot from.")
    cut = reply.outcome is Outcome.TRUNCATED
    found, state = _find(reply.text)
    if found is None:
        listed = _listed(reply.text)
        if not listed:
            reason = "The review was cut off before its ballot." if cut else "The review has no ballot."
            return Ballot((), BallotState.ABSTAINED, reason)
        found, state = {"ranking": listed}, BallotState.REPAIRED
    if found.get("abstain") is True:
        reason = _words(found.get("reason"))[:REASON_CHARACTERS]
        return Ballot((), BallotState.ABSTAINED, reason or "The reviewer abstained.")
    if cut and state is BallotState.REPAIRED:
        return Ballot((), BallotState.ABSTAINED, "The review was cut off inside its ballot.")
    return _checked(found.get("ranking"), state, seats)


def critique(text: str) -> str:
    """What a person reads of a review, whole or still growing: the critique, never raw JSON.

    While a review grows, so does this: what may yet turn out to be the start of a fence is held back.
    """
    start = text.lstrip()
    if fence := _OPENING.match(start):
        start = start[fence.end() - 1 :]
    if start.startswith("{"):
        found = _growing(start)
        return _words(found.get("critique")) if isinstance(found, dict) else ""
    fences = [*_OPENING.finditer(text)] or [*_PERHAPS_OPENING.finditer(text)]
    return text[: fences[-1].start()].rstrip() if fences else text.rstrip()


def _growing(text: str) -> Any:
    """The JSON at the start of a text that may be without its end, or have the end of a fence after it."""
    for candidate in (text, text.rstrip("` \n")):
        with contextlib.suppress(ValueError):
            return jiter.from_json(candidate.encode(), partial_mode="trailing-strings")
    return _repaired(text)


def _words(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _find(text: str) -> tuple[dict[str, Any] | None, BallotState]:
    """The JSON object that holds the ballot, and whether it had to be repaired.

    A fence inside a review that is JSON as a whole is a quotation.
    """
    whole = text.lstrip().startswith("{")
    for candidate in [text] if whole else [found.group(1) for found in reversed(list(_FENCE.finditer(text)))]:
        state = BallotState.VALID
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            value, state = _repaired(candidate), BallotState.REPAIRED
        if isinstance(value, dict) and ("ranking" in value or "abstain" in value):
            return value, state
    return None, BallotState.ABSTAINED


def _repaired(text: str) -> Any:
    """What can be made of broken JSON; None where that is nothing."""
    if len(text) > REPAIR_CHARACTERS:
        return None
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):
        return None


def _listed(text: str) -> list[list[str]]:
    """The numbered list under the last ranking header: an item is a label, or several that tie ("K73 = Q42")."""
    ranking: list[list[str]] = []
    headers = list(_HEADER.finditer(text))
    for line in text[headers[-1].end() :].splitlines() if headers else ():
        item = _ITEM.fullmatch(line.strip())
        if item:
            ranking.append(item.group(1).split("="))
        elif line.strip():
            break
    return ranking


def _bare(label: str) -> str:
    return re.sub(r"^(?:answer|response)\s+", "", label.strip(" *_`.[]()"), flags=re.IGNORECASE).strip(" *_`.[]()")


def _checked(ranking: object, state: BallotState, seats: Mapping[str, int]) -> Ballot:
    if not isinstance(ranking, list):
        return Ballot((), BallotState.INVALID, "The ballot's ranking is not a list.")
    groups: list[tuple[int, ...]] = []
    seen: set[str] = set()
    for entry in ranking:
        group = []
        for given in entry if isinstance(entry, list) else [entry]:
            label = _bare(given) if isinstance(given, str) else ""
            if label not in seats:
                words = given if isinstance(given, str) else "something"
                return Ballot((), BallotState.INVALID, f"The ballot names {words[:20]!r}, which is no answer's label.")
            if label in seen:
                return Ballot((), BallotState.INVALID, f"The ballot names {label} twice.")
            seen.add(label)
            group.append(seats[label])
        if group:
            groups.append(tuple(sorted(group)))
    if not groups:
        return Ballot((), BallotState.ABSTAINED, "The ballot ranks nothing.")
    return Ballot(tuple(groups), state)
