"""Names that the worker's frames and the page's templates share."""

from collections.abc import Callable
from functools import partial
from typing import Any

from council.core import aliases, prompts
from council.core.values import Plan, Slot, Stage


def slot_id(deliberation_id: Any, slot: Slot) -> str:
    """The id of a slot's card on the page. Inside it: `-open` (text that still grows), `-state` and `-tokens`."""
    seat = "" if slot.stage is Stage.SYNTHESISING else f"-{slot.seat}"
    return f"d{deliberation_id.hex[:12]}-{slot.stage}{seat}"


def rewriter(plan: Plan, slot: Slot) -> Callable[[str], str] | None:
    """What puts letters in the place of the anonymous labels in a slot's text; answers know no labels."""
    if slot.stage is Stage.ANSWERING:
        return None
    return partial(aliases.rewrite, names=prompts.to_letters(plan, slot.seat))
