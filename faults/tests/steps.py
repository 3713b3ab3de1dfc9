"""What tests of the rules for calls have in common: what an administrator sets, and what was asked and stored."""

from collections.abc import Callable
from typing import Any

import pytest

from faults.pages import Page
from faults.scene import Scene

FIRST = {"kind": "answer", "model": "m0"}
LAST = {"kind": "answer", "model": "m2"}
KINDS = {"answering": "answer", "reviewing": "ballot", "synthesising": "synthesis"}
RULES = {
    "attempts": 2,
    "longest_wait_seconds": 120,
    "repeat_after_timeout": True,
    "connect_seconds": 10,
    "breaker_failures": 5,
    "breaker_percent": 50,
    "breaker_least_calls": 10,
    "breaker_open_seconds": 30,
}
LOST = [
    pytest.param(answered, dies, id=f"{'after' if answered else 'before'}-{'dies' if dies else 'is cut off'}")
    for answered in (False, True)
    for dies in (True, False)
]
"""Before or after a statement of its: whether it was committed, and whether the process dies or its connection."""


def rules(scene: Scene, **changed: Any) -> None:
    """An administrator has changed the rules for calls."""
    values = {"id": 1, **RULES, **changed}
    places = ", ".join(["%s"] * len(values))
    scene.site.execute(f"INSERT INTO council_callpolicy ({', '.join(values)}) VALUES ({places})", *values.values())


def council(scene: Scene, **changed: Any) -> None:
    """An administrator has changed the council."""
    for name, value in changed.items():
        scene.site.execute(f"UPDATE council_council SET {name} = %s WHERE slug = 'bench'", value)


def stand_ins(scene: Scene, role: str, *models: str) -> None:
    """An administrator has given the council fallback models, in this order."""
    for position, model in enumerate(models):
        scene.site.execute(
            "INSERT INTO council_fallback (council_id, role, position, language_model_id)"
            " SELECT council.id, %s, %s, model.id FROM council_council council, council_languagemodel model"
            " WHERE council.slug = 'bench' AND model.slug = %s",
            role,
            position,
            model,
        )


def asked(scene: Scene, kind: str = "", model: str = "", about: str = "") -> list[dict]:
    """The requests of a kind, to a model, about a question; without the titles of conversations."""
    return [
        each
        for each in scene.provider.requests()
        if each["kind"] == kind or (not kind and each["kind"] in KINDS.values())
        if model in ("", each["body"]["model"])
        if about in str(each["body"])
    ]


def of_slots(page: Page, table: str = "answer") -> list[dict]:
    """What is stored of the page's answers, reviews or synthesis."""
    order = "" if table == "synthesis" else " ORDER BY seat"
    return page.site.rows(f"SELECT * FROM council_{table} WHERE deliberation_id = %s{order}", page.deliberation()["id"])


def writes(requests: Callable[[], list[dict]]) -> bool:
    """Whether the last of these requests has begun to be answered."""
    found = requests()
    return bool(found) and bool(found[-1]["first_byte_ns"])
