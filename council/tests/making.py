"""Plans, answers and reviews for tests of the engine, without a database."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from council.core import aliases
from council.core.values import (
    CHAIRMAN,
    Answer,
    Ballot,
    BallotState,
    Exchange,
    Mode,
    Outcome,
    Plan,
    Reply,
    Review,
    Seat,
)


async def until(happened: Callable[[], Any]) -> None:
    """Wait for it; the loop goes on, and a look may take its time."""
    while not await asyncio.to_thread(happened):  # what another process sees sets no event here
        await asyncio.sleep(0.01)


NAMES = ("Zeus 9", "Hera Ultra", "Apollo Mini", "Ares-4")


def seat(index: int = 0, **values: Any) -> Seat:
    given = {
        "name": NAMES[index],
        "context": 8000,
        "answer_tokens": 500,
        "review_tokens": 300,
        "synthesis_tokens": 500,
        **values,
    }
    return Seat(index=index, **given)


def plan(members: int = 3, *, seed: int = 1, history: int = 0, **values: Any) -> Plan:
    rng = random.Random(seed)
    question = values.pop("question", "Why is the sky blue?")
    seats = {name: values.pop(name) for name in list(values) if name in Seat.__dataclass_fields__}
    made = Plan(
        question=question,
        history=tuple(Exchange(f"question number {n}?", f"answer number {n}.") for n in range(history)),
        mode=Mode.FULL,
        members=tuple(seat(index, **seats) for index in range(members)),
        chairman=replace(seat(0, **seats), index=CHAIRMAN, name="Chronos Max"),
        orders=tuple(aliases.draw_order(members, rng, question) for _ in range(members)),
        common=aliases.draw_labels(members, rng, question),
        nonce=f"{rng.getrandbits(32):08x}",
        prompts=1,
    )
    return replace(made, **values)


def answer(index: int, text: str = "", outcome: Outcome = Outcome.COMPLETE) -> Answer:
    return Answer(index, Reply(text or f"It is Rayleigh scattering, number {index}.", outcome))


def review(index: int, *groups: tuple[int, ...], text: str = "All fine.") -> Review:
    return Review(index, Reply(text, Outcome.COMPLETE), Ballot(groups, BallotState.VALID))
