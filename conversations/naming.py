"""Names that the worker's frames and the page's templates share."""

import contextlib
from collections.abc import Callable
from functools import partial
from uuid import UUID

from council.core import aliases, prompts
from council.core.values import CHAIRMAN, Plan, Slot, Stage


def turn_id(deliberation_id: UUID) -> str:
    """The id of a turn on the page, and the start of all ids inside it."""
    return f"d{deliberation_id.hex[:12]}"


def slot_id(deliberation_id: UUID, slot: Slot) -> str:
    """The id of a slot's card on the page. Inside it: `-open` (text that still grows), `-state` and `-tokens`."""
    seat = "" if slot.stage is Stage.SYNTHESISING else f"-{slot.seat}"
    return f"{turn_id(deliberation_id)}-{slot.stage}{seat}"


def slot_value(slot: Slot) -> str:
    """How a button names a slot."""
    return f"{slot.stage}:{slot.seat}"


def slot_from(typed: str) -> Slot | None:
    """The slot that `slot_value` named; None for anything else."""
    stage, _, seat = typed.partition(":")
    if stage in set(Stage) and (seat == str(CHAIRMAN)) == (stage == Stage.SYNTHESISING) and len(seat) < 4:
        with contextlib.suppress(ValueError):
            return Slot(Stage(stage), int(seat))
    return None


def rewriter(plan: Plan, slot: Slot) -> Callable[[str], str] | None:
    """What puts letters in the place of the anonymous labels in a slot's text; answers know no labels."""
    if slot.stage is Stage.ANSWERING:
        return None
    return partial(aliases.rewrite, names=prompts.to_letters(plan, slot.seat))
