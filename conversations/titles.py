"""Titles of conversations, by the cheapest model of the council that answers."""

from collections.abc import Callable

from conversations.markdown import clean
from conversations.models import TITLE_LENGTH
from council import calls, plans
from council.call_rows import CallEnd
from council.claiming import Claim
from council.core import prompts
from council.core.values import Outcome
from council.models import Call


def from_question(question: str) -> str:
    """The start of a question, as a title until there is a better one."""
    words = " ".join(clean(question).split())
    return words if len(words) <= 60 else words[:60].rsplit(" ", 1)[0] + "…"


async def suggest(claim: Claim, heard: Callable[[CallEnd], None]) -> str:
    """A title from a model, for the question of a deliberation; empty where none came. `heard` is told of the call."""
    plan = claim.plan
    models = [plans.model_of(claim.stored, seat) for seat in range(-1, len(plan.members))]
    index = min(range(len(models)), key=lambda each: (models[each].output_price or 0, each))
    seat = [plan.chairman, *plan.members][index]
    request = prompts.title(plan.question, seat)
    reply = await calls.ask_model(
        models[index],
        seat.tokens_per_byte,
        request,
        purpose=Call.Purpose.TITLE,
        journal=calls.Rows(claim.id, claim.attempt, heard),
        repeats=0,  # the question's start will do
    )
    return _tidy(reply.text) if reply.outcome is Outcome.COMPLETE else ""


def _tidy(text: str) -> str:
    """One short line without its wrapping, or nothing where the model did not keep to the task."""
    lines = [line.strip() for line in clean(text).strip().splitlines() if line.strip()]
    title = lines[0].rstrip(".:").strip("\"'“”«»*#` ").removeprefix("Title:").strip().rstrip(".:") if lines else ""
    return title if 2 <= len(title) <= min(80, TITLE_LENGTH) and len(title.split()) <= 10 else ""
