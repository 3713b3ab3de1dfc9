"""What holds after every fault, whatever happened. Each invariant gives words for what it finds broken."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bench.text import read_stamps
from faults.pages import Page
from faults.site import PATIENCE, Site
from governance import hash_chain

PURPOSES = {"ballot": "review"}
"""The provider's words for a kind of request, where the site has others."""
TABLES = {"answer": "council_answer", "review": "council_review", "synthesis": "council_synthesis"}
LAST = 15.0
"""Seconds in which a page has healed once all is whole."""


class Account:
    """All that happened since a moment: deliberations, calls, and the requests that the provider counted."""

    def __init__(self, site: Site, since: Any, pages: list[Page]) -> None:
        self.site, self.pages = site, pages
        self.deliberations = site.rows("SELECT * FROM council_deliberation WHERE created >= %s ORDER BY created", since)
        self.calls = site.rows(
            "SELECT call.* FROM council_call call JOIN council_deliberation deliberation"
            " ON deliberation.id = call.deliberation_id WHERE deliberation.created >= %s ORDER BY call.id",
            since,
        )
        self.requests = [each for each in site.provider.requests() if each["kind"] not in {"models", "generation"}]
        questions = [(each["plan"].get("question"), each["id"]) for each in self.deliberations]
        self.deliberation_of = {}
        for request in self.requests:
            said = json.dumps(request["body"], ensure_ascii=False)
            # The newest: what was asked before stands in the history of what was asked after.
            found = [
                key
                for question, key in questions
                if question and json.dumps(question, ensure_ascii=False)[1:-1] in said
            ]
            self.deliberation_of[request["number"]] = found[-1] if found else None
        self.tried_again = {each for page in pages for each in page.tried_again}
        keys = [each["id"] for each in self.deliberations]
        self.slots = {
            name: site.rows(f"SELECT * FROM {table} WHERE deliberation_id = ANY(%s)", keys)
            for name, table in TABLES.items()
        }

    def told(self, key: Any) -> str:
        """A deliberation in words, for a message."""
        calls = [
            " ".join(str(each[name]) for name in ("purpose", "model_id", "fence", "state", "outcome", "error"))
            for each in self.calls
            if each["deliberation_id"] == key
        ]
        return "\n    ".join([str(key), *calls])


def ended(site: Site, seconds: float = PATIENCE) -> Iterator[str]:
    """I4: every deliberation ends within its bound, and so do the jobs."""
    deadline = time.monotonic() + seconds
    open_ = "SELECT id, status, stage, attempt FROM council_deliberation WHERE status IN ('queued', 'running')"
    jobs = (
        "SELECT id, status, attempts, args FROM procrastinate_jobs WHERE queue_name = 'deliberations'"
        " AND status IN ('todo', 'doing')"
    )
    while left := [*site.rows(open_), *site.rows(jobs)]:
        if time.monotonic() > deadline:
            yield f"I4: still open after {seconds:.0f} seconds: {left}"
            return
        time.sleep(0.05)


def one_result_a_slot(account: Account) -> Iterator[str]:
    """I1: at most one accepted result a slot, and what it shows comes from one request, whole.

    Each time that a person has a slot tried again, be it a complete one that is out of date, allows for one more, which
    must come after that and be of that slot.
    """
    accepted: Counter[Any] = Counter()
    for each in account.calls:
        if each["outcome"] == "complete" and each["purpose"] in TABLES:
            slot = (each["deliberation_id"], each["purpose"], each["seat"])
            tries = sum(again[:3] == slot and again[3] < each["fence"] for again in account.tried_again)
            accepted[slot, tries] += 1
    for (slot, tries), count in accepted.items():
        if count > 1:
            when = f", after it was tried again {tries} times," if tries else ""
            yield f"I1: {count} accepted results for {slot[1:]}{when} of {account.told(slot[0])}"
    stamps = {each["number"]: each["stamps"] for each in account.requests}
    for name, rows in account.slots.items():
        for row in rows:
            if row["state"] != "ended":
                yield f"I1: {name} of seat {row.get('seat')} never ended: {account.told(row['deliberation_id'])}"
            shown: dict[int, set[int]] = {}
            for each in read_stamps(row["text"]):
                shown.setdefault(each.request, set()).add(each.serial)
            if len(shown) > 1:
                yield f"I1: {name} of seat {row.get('seat')} is made of the requests {sorted(shown)}"
            for number, serials in shown.items():
                lacks = set(range(stamps.get(number, 0))) - serials
                if row["outcome"] == "complete" and lacks:
                    yield f"lost: {name} of seat {row.get('seat')} lacks {len(lacks)} tokens of request {number}"


def a_call_for_each_request(account: Account) -> Iterator[str]:
    """I2: each request has a Call that went out, each Call without one was not sent or is unknown; all are settled."""
    counted: Counter[Any] = Counter()
    for request in account.requests:
        key = account.deliberation_of[request["number"]]
        if key is None:
            yield f"I2: request {request['number']} ({request['kind']}) belongs to no deliberation"
        counted[key, request["body"].get("model"), PURPOSES.get(request["kind"], request["kind"])] += 1
    rows: Counter[Any] = Counter()
    went: Counter[Any] = Counter()
    nothing: Counter[Any] = Counter()
    for call in account.calls:
        slot = (call["deliberation_id"], call["model_id"], call["purpose"])
        rows[slot] += 1
        went[slot] += call["sent"] is not None
        nothing[slot] += call["sent"] is None or call["unknown"]
        if call["state"] != "ended":
            yield f"I2: a call was never settled: {slot[1:]} of {account.told(slot[0])}"
    for slot in counted | rows:
        more = rows[slot] - counted[slot]
        if went[slot] < counted[slot]:
            calls = f"{went[slot]} of {rows[slot]} calls went out"
            yield f"I2: {counted[slot]} requests, {calls}, for {slot[1:]} of {account.told(slot[0])}"
        elif more > nothing[slot]:
            yield f"I2: {rows[slot]} calls, {counted[slot]} requests, for {slot[1:]} of {account.told(slot[0])}"


def pages_equal_a_reload(account: Account) -> Iterator[str]:
    """I5: each page that is open shows what a reload would show."""
    deadline = time.monotonic() + LAST
    for page in account.pages:
        while found := page.differences():
            if time.monotonic() > deadline:
                yield f"I5: {page.place} differs from a reload: " + "; ".join(found)[:3000]
                break
            time.sleep(0.1)


def no_deliberation_alone(account: Account) -> Iterator[str]:
    """I7: no deliberation without a turn."""
    alone = (
        "SELECT id FROM council_deliberation WHERE NOT EXISTS"
        " (SELECT FROM conversations_turn WHERE deliberation_id = council_deliberation.id)"
    )
    for each in account.site.rows(alone):
        yield f"I7: {each['id']} has no turn"


def audited(account: Account) -> Iterator[str]:
    """I6: the chain of the audit trail is whole; each deliberation was asked once in it and ended once for each try.

    Whoever was sent a part of it is named.
    """
    events = [tuple(each.values()) for each in account.site.rows(hash_chain.EVENTS)]
    for each in hash_chain.look_through(events).wrong:
        yield f"I6: {each}"
    about = account.site.rows(
        "SELECT object_id, kind, details FROM governance_event WHERE object_type = 'deliberation'"
    )
    told = Counter((each["object_id"], each["kind"]) for each in about)
    for key in (str(each["id"]) for each in account.deliberations):
        asked, again, ended = (told[key, kind] for kind in ("asked", "tried again", "ended"))
        seen = sum(str(each[0]) == key for each in account.tried_again)
        if asked != 1 or ended != 1 + again or again < seen:
            yield (
                f"I6: the trail says of {key} that it was asked {asked} times, tried again {again} and ended {ended};"
                f" the pages tried it again {seen} times"
            )
    yield from unnamed(account.calls, about)


def unnamed(calls: list[dict[str, Any]], events: list[dict[str, Any]]) -> Iterator[str]:
    """The calls that were sent and whose provider and model no event of their deliberation names as one that saw it."""
    named = {
        (event["object_id"], each["provider"], each["model"])
        for event in events
        for each in event["details"].get("seen by", [])
    }
    for call in calls:
        seen = (str(call["deliberation_id"]), call["provider_name"], call["model_id"])
        if call["sent"] and seen not in named:
            yield f"I6: the trail of {seen[0]} does not name {seen[2]} of {seen[1]}, asked for its {call['purpose']}"


# I3 (money) joins here, a function like these, when there is a ledger.
INVARIANTS = (one_result_a_slot, a_call_for_each_request, pages_equal_a_reload, audited, no_deliberation_alone)


def broken(site: Site, since: Any, pages: list[Page], seconds: float = PATIENCE) -> list[str]:
    """Everything that does not hold, once all that goes on has ended."""
    if late := list(ended(site, seconds)):
        return late
    account = Account(site, since, pages)
    return [each for invariant in INVARIANTS for each in invariant(account)]
