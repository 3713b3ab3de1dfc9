"""The chain of hashes that the audit trail is: each event's is that of the one before it and of its own row.

It knows no model and no setting, so that whoever has the rows alone can look through them.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

# As the trigger of the table says it; in full here, for a function of the database could be another by now.
_TEXT = """
    jsonb_build_array(
        id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), actor, kind, object_type, object_id, details
    )::text
"""
EVENTS = f"SELECT id, hash, {_TEXT} FROM governance_event ORDER BY id"  # noqa: S608  # own name
MOST_WRONG = 20  # findings that are told of


class Head(NamedTuple):
    """The last event at a moment: its number (0: none), its hash in hexadecimal digits, and when it was looked at."""

    event: int
    hash: str
    at: str


class Found(NamedTuple):
    """What a look through the trail came to: how many events, the last of them, and what is wrong, in words."""

    events: int
    head: Head
    wrong: list[str]


def look_through(events: Iterable[tuple[int, bytes, str]], heads: Iterable[Head] = ()) -> Found:
    """Look through what `EVENTS` finds: number, hash and text of each event, in order.

    `heads`: what it must still have.
    """
    wrong: list[str] = []
    count, last, previous = 0, 0, b""
    # An event whose chain was made anew between two exports has two heads, and can only be one of them.
    expected: dict[int, set[str]] = {}
    for head in heads:
        if head.event:
            expected.setdefault(head.event, set()).add(head.hash)
    for number, has, text in events:
        if number != last + 1:
            missing = f"event {last + 1}" if number == last + 2 else f"events {last + 1} to {number - 1}"
            wrong.append(f"{missing[0].upper()}{missing[1:]} missing.")
        elif hashlib.sha256(previous + text.encode()).digest() != bytes(has):
            wrong.append(f"Event {number} is not what it was when it was written.")
        if expected.pop(number, set()) - {bytes(has).hex()}:
            wrong.append(f"Event {number} is another than the one whose head was exported.")
        count, last, previous = count + 1, number, bytes(has)
    wrong += [f"Event {number}, whose head was exported, is missing." for number in sorted(expected)]
    more = [f"And {len(wrong) - MOST_WRONG} more."] if len(wrong) > MOST_WRONG else []
    return Found(count, Head(last, previous.hex(), datetime.now(UTC).isoformat()), [*wrong[:MOST_WRONG], *more])
