"""The pipeline: collect answers, collect reviews, tally, synthesise.

A plain coroutine over two functions. `ask(slot, prompt, patience)` has a slot of the plan filled and returns its reply,
however it ended, with the prompt that fits the model asked; a slot that is already filled returns what is recorded, and
makes no prompt, so that resuming after a crash is running `deliberate` again. `emit(event)` records the event and shows
it. Neither raises for a seat that failed: one failure is never the end of the others. How long a stage waits is said by
its patience, whose limit `ask` keeps to.

It may also be carried out once more when one slot of it was emptied, to try that again: what was written before an
answer came stays, is read by the answers that it saw, and the end says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from council.core import ballots, prompts, scoring
from council.core.aliases import letter
from council.core.errors import PromptTooLong
from council.core.events import (
    AnswerFinished,
    Ended,
    Event,
    ReviewFinished,
    StageStarted,
    StandingsReady,
    SynthesisFinished,
)
from council.core.patience import NOT_WAITED_FOR, Patience
from council.core.values import (
    CHAIRMAN,
    Answer,
    Ballot,
    BallotState,
    Mode,
    Outcome,
    Plan,
    Reply,
    Request,
    Review,
    Seat,
    Slot,
    Stage,
    Standing,
    Status,
    Synthesis,
)

Prompt = Callable[[Seat], Request]
"""What fits a seat, be it with another model in it. Raises PromptTooLong."""
Ask = Callable[[Slot, Prompt, Patience], Awaitable[Reply]]
Emit = Callable[[Event], Awaitable[None]]
T = TypeVar("T")

_ANSWERABLE = {Outcome.COMPLETE, Outcome.TRUNCATED, Outcome.REFUSED, Outcome.FILTERED, Outcome.EMPTY}


async def deliberate(plan: Plan, ask: Ask, emit: Emit) -> Status:
    """Carry the plan out and return how it ended; the last event says the same."""
    ended = await _deliberate(plan, ask, emit)
    await emit(ended)
    return ended.status


async def _deliberate(plan: Plan, ask: Ask, emit: Emit) -> Ended:
    all_answers = await collect_answers(plan, ask, emit)
    answers = [answer for answer in all_answers if answer.reply.usable]
    if not answers:
        return Ended(Status.FAILED, "No member answered.")
    gaps = []
    if len(answers) < len(plan.members):
        gaps.append(f"{_names(a.seat for a in all_answers if not a.reply.usable)} did not answer.")
    if cut := [each.seat for each in answers if _not_waited_for(each.reply)]:
        gaps.append(f"{_names(cut)} had not come to an end, and the council did not wait any longer.")
    if plan.mode is Mode.ANSWERS:
        return _ended(gaps)
    if len(answers) == 1:
        gaps.append("With a single answer there was nothing to review or to sum up.")
        return _ended(gaps)

    reviews = await collect_reviews(plan, all_answers, answers, ask, emit)
    failed = [
        each.seat for each in reviews if not each.reply.usable and could_answer(all_answers[each.seat].reply.outcome)
    ]
    if failed:
        gaps.append(f"{_names(failed)} did not review.")
    standings = scoring.standings(each.ballot for each in reviews)
    await emit(StandingsReady(standings))

    synthesis = await synthesise(plan, answers, reviews, standings, ask=ask, emit=emit)
    if not synthesis.reply.usable:
        gaps.append("The chairman wrote no answer; the answers and reviews are all there.")
        return _ended(gaps)
    if late := [each.seat for each in answers if each.seat not in synthesis.saw]:
        gaps.append(f"The council's answer was written before {_names(late)} answered.")
    if _not_waited_for(synthesis.reply):
        gaps.append("The chairman had not come to an end, and the council did not wait any longer.")
    elif synthesis.reply.outcome is Outcome.TRUNCATED:
        gaps.append("The council's answer was cut off.")
    return _ended(gaps)


def first_slots(plan: Plan) -> list[Slot]:
    """The slots that a new deliberation asks to be filled at once."""
    return [Slot(Stage.ANSWERING, seat.index) for seat in plan.members if _fits(plan, seat)]


async def collect_answers(plan: Plan, ask: Ask, emit: Emit) -> list[Answer]:
    """Stage 1: every member answers, all at once. In the order of the members."""

    async def one(seat: Seat) -> Answer:
        slot = Slot(Stage.ANSWERING, seat.index)
        reply = await _ask(ask, slot, lambda seat: prompts.answer(plan, seat), patience)
        answer = Answer(seat.index, reply)
        await emit(AnswerFinished(answer))
        return answer

    await emit(StageStarted(Stage.ANSWERING, tuple(seat.index for seat in plan.members)))
    with Patience(plan.quorum, plan.grace_seconds, plan.stage_seconds) as patience:
        return await _together(one(seat) for seat in plan.members)


async def collect_reviews(
    plan: Plan, all_answers: Sequence[Answer], answers: Sequence[Answer], ask: Ask, emit: Emit
) -> list[Review]:
    """Stage 2: every member reviews all answers, its own too, without names. In the order of the members.

    A member that could not be reached for an answer is not waited for a second time: it abstains.
    """

    async def one(seat: Seat) -> Review:
        if could_answer(all_answers[seat.index].reply.outcome):
            slot = Slot(Stage.REVIEWING, seat.index)
            reply = await _ask(ask, slot, lambda seat: prompts.review(plan, seat, answers), patience)
            saw = _saw(reply, answers)
            seen = [each for each in answers if each.seat in saw]
            ballot = ballots.read(reply, prompts.reviewed(plan, seat.index, seen))
        else:
            reason = "It could not answer, so it was not asked to review."
            reply, saw = Reply("", Outcome.FAILED, reason), ()
            ballot = Ballot((), BallotState.ABSTAINED, reason)
        review = Review(seat.index, reply, ballot, saw)
        await emit(ReviewFinished(review))
        return review

    await emit(StageStarted(Stage.REVIEWING, tuple(seat.index for seat in plan.members)))
    with Patience(plan.quorum, plan.grace_seconds, plan.stage_seconds) as patience:
        return await _together(one(seat) for seat in plan.members)


async def synthesise(
    plan: Plan,
    answers: Sequence[Answer],
    reviews: Sequence[Review],
    standings: Sequence[Standing],
    *,
    ask: Ask,
    emit: Emit,
) -> Synthesis:
    """Stage 3: the chairman writes the council's answer."""
    await emit(StageStarted(Stage.SYNTHESISING, (CHAIRMAN,)))
    slot = Slot(Stage.SYNTHESISING, CHAIRMAN)

    def prompt(seat: Seat) -> Request:
        return prompts.synthesis(replace(plan, chairman=seat), answers, reviews, standings)

    with Patience(seconds=plan.stage_seconds) as patience:
        reply = await _ask(ask, slot, prompt, patience)
    synthesis = Synthesis(reply, _saw(reply, answers))
    await emit(SynthesisFinished(synthesis))
    return synthesis


def could_answer(outcome: Outcome) -> bool:
    """Whether a member whose answer ended so is asked to review: it said something, if not an answer."""
    return outcome in _ANSWERABLE


async def _ask(ask: Ask, slot: Slot, prompt: Prompt, patience: Patience) -> Reply:
    try:
        reply = await ask(slot, prompt, patience)
    except PromptTooLong as error:
        return Reply("", Outcome.FAILED, str(error))
    if reply.usable:
        patience.heard()
    return reply


def _saw(reply: Reply, answers: Sequence[Answer]) -> tuple[int, ...]:
    return tuple(each.seat for each in answers) if reply.saw is None else reply.saw


def _not_waited_for(reply: Reply) -> bool:
    return reply.outcome is Outcome.TRUNCATED and reply.error.endswith(NOT_WAITED_FOR)


def _fits(plan: Plan, seat: Seat) -> bool:
    try:
        prompts.answer(plan, seat)
    except PromptTooLong:
        return False
    return True


async def _together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in coroutines]
    return [task.result() for task in tasks]


def _ended(gaps: Sequence[str]) -> Ended:
    return Ended(Status.PARTIAL, " ".join(gaps)) if gaps else Ended(Status.COMPLETE)


def _names(seats: Iterable[int]) -> str:
    letters = [letter(seat) for seat in seats]
    return letters[0] if len(letters) == 1 else f"{', '.join(letters[:-1])} and {letters[-1]}"
