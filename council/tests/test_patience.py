"""How long a stage waits. Nothing here looks at a clock: what must not be waited for never comes."""

import asyncio
import json

from council.core.deliberate import deliberate
from council.core.events import AnswerFinished, Ended, ReviewFinished, SynthesisFinished
from council.core.patience import NOT_WAITED_FOR, Patience
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage, Status
from council.tests.making import plan


class Slow:
    """A council in which some never finish: `text` is what they had by then."""

    def __init__(self, made, *slots, text=""):
        self.plan = made
        self.slow = {Slot(stage, seat) for stage, seat in slots}
        self.text = text
        self.events = []

    async def ask(self, slot, prompt, patience):
        request = prompt(self.plan.seat(slot.seat))
        try:
            async with patience.limit():
                if slot in self.slow:
                    await asyncio.Event().wait()
        except TimeoutError:
            outcome = Outcome.TRUNCATED if self.text else Outcome.TIMED_OUT
            return Reply(self.text, outcome, patience.over)
        if slot.stage is not Stage.REVIEWING:
            return Reply(f"By {slot.seat}.", Outcome.COMPLETE)
        labels = [label for label in self.plan.orders[slot.seat].labels if label in str(request.schema)]
        return Reply(json.dumps({"critique": "Fine.", "ranking": [[each] for each in labels]}), Outcome.COMPLETE)

    async def emit(self, event):
        self.events.append(event)

    async def deliberate(self):
        return await deliberate(self.plan, self.ask, self.emit)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


async def test_once_a_quorum_has_answered_the_others_are_waited_for_a_little_longer():
    council = Slow(plan(4, quorum=2, grace_seconds=0), (Stage.ANSWERING, 1), (Stage.ANSWERING, 3))
    assert await council.deliberate() is Status.PARTIAL
    late = {event.answer.seat: event.answer.reply for event in council.of(AnswerFinished)}
    assert {late[1].outcome, late[3].outcome} == {Outcome.TIMED_OUT}
    assert late[1].error == "Enough others were done; the council did not wait any longer."
    assert council.of(Ended)[0].reason == "B and D did not answer."
    assert council.of(SynthesisFinished)[0].synthesis.reply.usable


async def test_until_then_the_others_go_on():
    with Patience(1, 1000) as patience:
        patience.heard()
        async with patience.limit():
            for _ in range(20):
                await asyncio.sleep(0)
    assert not patience.over


async def test_what_a_member_had_written_by_then_counts_and_the_end_says_that_it_is_cut_off():
    council = Slow(plan(3, quorum=2, grace_seconds=0), (Stage.ANSWERING, 1), text="So far.")
    assert await council.deliberate() is Status.PARTIAL
    assert council.of(SynthesisFinished)[0].synthesis.saw == (0, 1, 2)
    assert council.of(Ended)[0].reason == "B had not come to an end, and the council did not wait any longer."


async def test_as_many_reviews_are_enough():
    council = Slow(plan(3, quorum=2, grace_seconds=0), (Stage.REVIEWING, 2))
    assert await council.deliberate() is Status.PARTIAL
    late = {event.review.seat: event.review for event in council.of(ReviewFinished)}
    assert late[2].reply.outcome is Outcome.TIMED_OUT
    assert not late[2].ballot.counts
    assert council.of(Ended)[0].reason == "C did not review."


async def test_an_answer_that_failed_is_none_of_a_quorum():
    council = Slow(plan(3, quorum=2, grace_seconds=0))
    gave_up, asked = asyncio.Event(), council.ask

    async def ask(slot, prompt, patience):
        if slot == Slot(Stage.ANSWERING, 0):
            gave_up.set()
            return Reply("", Outcome.FAILED, "It is down.")
        if slot == Slot(Stage.ANSWERING, 2):
            async with patience.limit():
                await gave_up.wait()
                for _ in range(20):
                    await asyncio.sleep(0)
        return await asked(slot, prompt, patience)

    council.ask = ask
    await council.deliberate()
    assert [event.answer.reply.usable for event in council.of(AnswerFinished) if event.answer.seat] == [True, True]


async def test_no_stage_takes_longer_than_its_deadline():
    slots = [(Stage.ANSWERING, 0), (Stage.REVIEWING, 1), (Stage.SYNTHESISING, CHAIRMAN)]
    council = Slow(plan(3, stage_seconds=0), *slots, text="So far.")
    assert await council.deliberate() is Status.PARTIAL
    assert council.of(SynthesisFinished)[0].synthesis.reply == Reply(
        "So far.", Outcome.TRUNCATED, "The stage took 0 seconds; the council did not wait any longer."
    )
    assert council.of(Ended)[0].reason == (
        "A had not come to an end, and the council did not wait any longer."
        " The chairman had not come to an end, and the council did not wait any longer."
    )


async def test_without_limits_it_waits_and_what_comes_after_the_end_does_not_begin():
    async with Patience().limit():
        await asyncio.sleep(0)
    begun = []
    with Patience(1, 0) as patience:
        patience.heard()
        try:
            async with patience.limit():
                await asyncio.Event().wait()
        except TimeoutError:
            begun.append(patience.over)
        try:
            async with patience.limit():
                await asyncio.Event().wait()
        except TimeoutError:
            begun.append(patience.over)
    assert [each.endswith(NOT_WAITED_FOR) for each in begun] == [True, True]


async def test_a_person_who_stops_it_is_no_end_of_patience():
    council = Slow(plan(2), (Stage.ANSWERING, 0))
    task = asyncio.create_task(council.deliberate())
    while not council.of(AnswerFinished):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_a_plan_of_old_says_nothing_of_it_and_waits_for_all():
    stored = plan(3, quorum=2).as_json()
    assert Plan.from_json(stored).quorum == 2
    for name in ("quorum", "grace_seconds", "stage_seconds"):
        del stored[name]
    old = Plan.from_json(stored)
    assert (old.quorum, old.grace_seconds, old.stage_seconds) == (None, 30, 900)
