"""Review text -> Ballot, or an abstention with its reason. Prose is never counted as votes.

The ladder: the whole text as JSON; the last fenced JSON, repaired where it is broken; the last "FINAL RANKING"
header with nothing but exact labels below it; else an abstention.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jiter
import json_repair

from council.core.values import Ballot, BallotState, Outcome, Reply

ENUMERATE_UP_TO = 4

_FENCE = re.compile(r"```(?:json)?[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_HEADER = re.compile(r"^[\s#*_>]*(?:final\s+)?ranking[\s*_]*:?[\s*_]*$", re.IGNORECASE | re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+(.+?)\s*$")


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
    found, state = _find(reply.text)
    if found is None:
        listed = _listed(reply.text, seats)
        if listed is not None:
            return listed
        cut = reply.outcome is Outcome.TRUNCATED
        return Ballot(
            (),
            BallotState.ABSTAINED,
            "The review was cut off before its ballot." if cut else "The review has no ballot.",
        )
    if found.get("abstain") is True:
        return Ballot((), BallotState.ABSTAINED, _words(found.get("reason")) or "The reviewer abstained.")
    if reply.outcome is Outcome.TRUNCATED and state is BallotState.REPAIRED:
        return Ballot((), BallotState.ABSTAINED, "The review was cut off inside its ballot.")
    return _checked(found.get("ranking"), state, seats)


def critique(text: str) -> str:
    """What a person reads of a review, whole or still growing: the critique, never raw JSON."""
    start = text.lstrip()
    if start.startswith("```"):
        start = start.removeprefix("```").removeprefix("json").lstrip()
        start = start.rstrip().removesuffix("```")
    if start.startswith("{"):
        try:
            # A text that still grows is JSON without its end.
            found = jiter.from_json(start.encode(), partial_mode="trailing-strings")
        except ValueError:
            found = json_repair.loads(start)
        return _words(found.get("critique")) if isinstance(found, dict) else ""
    fence = text.rfind("```json")
    return text[:fence].rstrip() if fence >= 0 else text


def _words(value: object) -> str:
    return value if isinstance(value, str) else ""


def _find(text: str) -> tuple[dict[str, Any] | None, BallotState]:
    """The JSON object that holds the ballot, and whether it had to be repaired."""
    fenced = [found.group(1) for found in _FENCE.finditer(text)]
    candidates = [text, *reversed(fenced)]
    for candidate in candidates:
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict) and ("ranking" in value or "abstain" in value):
            return value, BallotState.VALID
    for candidate in [*([text] if text.lstrip().startswith("{") else []), *reversed(fenced)]:
        value = json_repair.loads(candidate)
        if isinstance(value, dict) and "ranking" in value:
            return value, BallotState.REPAIRED
    return None, BallotState.ABSTAINED


def _listed(text: str, seats: Mapping[str, int]) -> Ballot | None:
    """The numbered list under the last ranking header: one exact label an item, or several that tie ("K73 = Q42")."""
    headers = list(_HEADER.finditer(text))
    if not headers:
        return None
    ranking: list[list[str]] = []
    for line in text[headers[-1].end() :].splitlines():
        item = _ITEM.match(line)
        if item:
            ranking.append([_bare(label) for label in item.group(1).split("=")])
        elif line.strip():
            break
    return _checked(ranking, BallotState.REPAIRED, seats) if ranking else None


def _bare(label: str) -> str:
    return re.sub(r"^(?:answer|response)\s+", "", label.strip(" *_`.[]()"), flags=re.IGNORECASE).strip(" *_`.[]()")


def _checked(ranking: object, state: BallotState, seats: Mapping[str, int]) -> Ballot:
    if not isinstance(ranking, list):
        return Ballot((), BallotState.INVALID, "The ballot's ranking is not a list.")
    groups: list[tuple[int, ...]] = []
    seen: set[str] = set()
    for entry in ranking:
        labels = entry if isinstance(entry, list) else [entry]
        group = []
        for label in labels:
            if not isinstance(label, str) or label not in seats:
                return Ballot(
                    (), BallotState.INVALID, f"The ballot names {str(label)[:20]!r}, which is no answer's label."
                )
            if label in seen:
                return Ballot((), BallotState.INVALID, f"The ballot names {label} twice.")
            seen.add(label)
            group.append(seats[label])
        if group:
            groups.append(tuple(sorted(group)))
    if not groups:
        return Ballot((), BallotState.ABSTAINED, "The ballot ranks nothing.")
    return Ballot(tuple(groups), state)
