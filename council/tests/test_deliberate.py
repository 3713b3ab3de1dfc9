import asyncio
import json
from dataclasses import replace

from council.core import prompts
from council.core.deliberate import deliberate
from council.core.events import (
    AnswerFinished,
    Ended,
    ReviewFinished,
    StageStarted,
    StandingsReady,
    SynthesisFinished,
)
from council.core.values import CHAIRMAN, BallotState, Mode, Outcome, Reply, Slot, Stage, Status
from council.tests.making import plan, until

FAILED = Reply("", Outcome.FAILED, "It is down.")


class Council:
    """`ask` and `emit` for a plan: answers in time, except what `instead` says of a slot."""

    def __init__(self, made, instead=None):
        self.plan = made
        self.instead = {Slot(stage, seat): reply for (stage, seat), reply in (instead or {}).items()}
        self.asked = {}
        self.events = []

    async def ask(self, slot, prompt, patience):
        assert slot not in self.asked, "a slot is asked once"
        self.asked[slot] = request = prompt(self.plan.seat(slot.seat))
        # The later seats are the first to be done.
        for _ in range(9 - slot.seat):
            await asyncio.sleep(0)
        if slot in self.instead:
            return self.instead[slot]
        match slot.stage:
            case Stage.ANSWERING:
                return Reply(f"Answer {slot.seat}.", Outcome.COMPLETE)
            case Stage.REVIEWING:
                labels = dict(zip(self.plan.orders[slot.seat].seats, self.plan.orders[slot.seat].labels, strict=True))
                shown = [labels[seat] for seat in sorted(labels) if labels[seat] in str(request.schema)]
                ballot = {"critique": f"{shown[0]} is best.", "ranking": [[label] for label in shown]}
                return Reply(json.dumps(ballot), Outcome.COMPLETE)
            case Stage.SYNTHESISING:
                return Reply("The council's answer.", Outcome.COMPLETE)

    async def emit(self, event):
        await asyncio.sleep(0)
        self.events.append(event)

    async def deliberate(self):
        return await deliberate(self.plan, self.ask, self.emit)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self):
        assert isinstance(self.events[-1], Ended)
        assert len(self.of(Ended)) == 1
        return self.events[-1]


async def test_answers_then_reviews_then_standings_then_the_synthesis():
    council = Council(plan(3))
    assert await council.deliberate() is Status.COMPLETE
    assert [type(event) for event in council.events] == [
        StageStarted,
        *[AnswerFinished] * 3,
        StageStarted,
        *[ReviewFinished] * 3,
        StandingsReady,
        StageStarted,
        SynthesisFinished,
        Ended,
    ]
    assert council.of(StageStarted) == [
        StageStarted(Stage.ANSWERING, (0, 1, 2)),
        StageStarted(Stage.REVIEWING, (0, 1, 2)),
        StageStarted(Stage.SYNTHESISING, (CHAIRMAN,)),
    ]
    assert council.ended == Ended(Status.COMPLETE)


async def test_members_work_side_by_side_and_are_told_as_they_finish():
    council = Council(plan(4))
    await council.deliberate()
    assert [event.answer.seat for event in council.of(AnswerFinished)] == [3, 2, 1, 0]
    assert [event.review.seat for event in council.of(ReviewFinished)] == [3, 2, 1, 0]


async def test_ballots_are_read_by_the_labels_of_their_reviewer():
    council = Council(plan(3))
    await council.deliberate()
    assert all(event.review.ballot.groups == ((0,), (1,), (2,)) for event in council.of(ReviewFinished))
    (ready,) = council.of(StandingsReady)
    assert [(each.seat, each.place, each.mean) for each in ready.standings] == [(0, 1, 1.0), (1, 2, 2.0), (2, 3, 3.0)]


async def test_the_chairman_reads_answers_reviews_and_standings():
    council = Council(plan(3))
    await council.deliberate()
    request = council.asked[Slot(Stage.SYNTHESISING, CHAIRMAN)]
    text = request.messages[-1]["content"]
    for seat in range(3):
        assert f"Answer {seat}." in text
    assert text.count(f"{council.plan.common[0]} is best.") == 3


async def test_one_failure_never_ends_the_others():
    council = Council(plan(3), {(Stage.ANSWERING, 1): FAILED})
    assert await council.deliberate() is Status.PARTIAL
    assert [event.answer.reply.usable for event in council.of(AnswerFinished)] == [True, False, True]
    assert council.of(SynthesisFinished)[0].synthesis.reply.usable
    assert council.ended.reason == "B did not answer."
    assert "Answer 1." not in str(council.asked[Slot(Stage.REVIEWING, 0)])


async def test_a_member_that_could_not_be_reached_is_not_waited_for_twice():
    council = Council(plan(3), {(Stage.ANSWERING, 1): FAILED})
    await council.deliberate()
    assert Slot(Stage.REVIEWING, 1) not in council.asked
    (abstained,) = [event.review for event in council.of(ReviewFinished) if event.review.seat == 1]
    assert abstained.ballot.state is BallotState.ABSTAINED
    assert abstained.ballot.reason == "It could not answer, so it was not asked to review."
    assert "did not review" not in council.ended.reason


async def test_a_member_whose_answer_was_empty_still_reviews():
    council = Council(plan(3), {(Stage.ANSWERING, 1): Reply("", Outcome.EMPTY, "It returned no text.")})
    await council.deliberate()
    assert Slot(Stage.REVIEWING, 1) in council.asked


async def test_an_answer_that_was_cut_off_is_an_answer():
    council = Council(plan(2), {(Stage.ANSWERING, 1): Reply("Answer 1 but", Outcome.TRUNCATED, "Cut.")})
    assert await council.deliberate() is Status.COMPLETE


async def test_a_councils_answer_that_was_cut_off_makes_it_partial():
    council = Council(plan(2), {(Stage.SYNTHESISING, CHAIRMAN): Reply("It was", Outcome.TRUNCATED, "Cut.")})
    assert await council.deliberate() is Status.PARTIAL
    assert council.ended.reason == "The council's answer was cut off."


async def test_no_answer_is_a_failure_and_nothing_more_is_asked():
    council = Council(plan(3), {(Stage.ANSWERING, seat): FAILED for seat in range(3)})
    assert await council.deliberate() is Status.FAILED
    assert council.ended.reason == "No member answered."
    assert len(council.asked) == 3


async def test_a_single_answer_is_left_as_it_is():
    council = Council(plan(3), {(Stage.ANSWERING, seat): FAILED for seat in (0, 2)})
    assert await council.deliberate() is Status.PARTIAL
    assert council.ended.reason == (
        "A and C did not answer. With a single answer there was nothing to review or to sum up."
    )
    assert {slot.stage for slot in council.asked} == {Stage.ANSWERING}


async def test_answers_only_stops_after_the_answers():
    council = Council(plan(3, mode=Mode.ANSWERS))
    assert await council.deliberate() is Status.COMPLETE
    assert council.of(StageStarted) == [StageStarted(Stage.ANSWERING, (0, 1, 2))]
    assert len(council.asked) == 3


async def test_answers_only_tells_who_did_not_answer():
    council = Council(plan(4, mode=Mode.ANSWERS), {(Stage.ANSWERING, seat): FAILED for seat in (0, 1, 3)})
    assert await council.deliberate() is Status.PARTIAL
    assert council.ended.reason == "A, B and D did not answer."


async def test_a_review_that_failed_is_told_and_the_chairman_goes_on():
    council = Council(plan(3), {(Stage.REVIEWING, 2): Reply("", Outcome.TIMED_OUT, "Silent.")})
    assert await council.deliberate() is Status.PARTIAL
    assert council.ended.reason == "C did not review."
    assert council.of(StandingsReady)[0].standings[0].ballots == 2


async def test_a_ballot_that_does_not_count_is_no_failure():
    council = Council(plan(3), {(Stage.REVIEWING, 2): Reply("All are good.", Outcome.COMPLETE)})
    assert await council.deliberate() is Status.COMPLETE
    assert council.of(StandingsReady)[0].standings[0].ballots == 2


async def test_without_any_review_there_are_no_standings_but_still_an_answer():
    council = Council(plan(2), {(Stage.REVIEWING, seat): FAILED for seat in range(2)})
    assert await council.deliberate() is Status.PARTIAL
    assert council.of(StandingsReady) == [StandingsReady(())]
    assert council.of(SynthesisFinished)[0].synthesis.reply.usable


async def test_a_chairman_that_failed_leaves_answers_and_reviews():
    council = Council(plan(2), {(Stage.SYNTHESISING, CHAIRMAN): FAILED})
    assert await council.deliberate() is Status.PARTIAL
    assert council.ended.reason == "The chairman wrote no answer; the answers and reviews are all there."


async def test_a_question_too_long_for_one_member_is_that_members_failure():
    made = plan(3, question="long " * 2000, context=9000)
    small = type(made.members[0])(**{**made.as_json()["members"][1], "context": 1000})
    council = Council(type(made)(**{**_fields(made), "members": (made.members[0], small, made.members[2])}))
    assert await council.deliberate() is Status.PARTIAL
    (failed,) = [event.answer for event in council.of(AnswerFinished) if not event.answer.reply.usable]
    assert failed.seat == 1
    assert "tokens long" in failed.reply.error
    assert Slot(Stage.ANSWERING, 1) not in council.asked


def _fields(made):
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


async def test_running_it_again_over_recorded_slots_gives_the_same():
    first = Council(plan(3), {(Stage.ANSWERING, 1): FAILED})
    await first.deliberate()
    recorded = {event.answer.seat: event.answer.reply for event in first.of(AnswerFinished)}

    again = Council(plan(3), {(Stage.ANSWERING, seat): reply for seat, reply in recorded.items()})
    assert await again.deliberate() is Status.PARTIAL
    assert again.of(StandingsReady) == first.of(StandingsReady)
    assert again.asked == first.asked
    assert again.ended == first.ended


async def test_the_same_request_is_made_for_the_same_slot():
    council = Council(plan(3))
    await council.deliberate()
    for member in council.plan.members:
        assert council.asked[Slot(Stage.ANSWERING, member.index)] == prompts.answer(council.plan, member)


async def test_stopping_it_stops_every_call_under_way():
    council, stopped = Council(plan(3)), []

    async def ask(slot, prompt, patience):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(slot.seat)

    task = asyncio.create_task(deliberate(council.plan, ask, council.emit))
    await until(lambda: council.events)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert sorted(stopped) == [0, 1, 2]


class Again(Council):
    """A deliberation once more, over what is recorded of the first time but for one slot."""

    def __init__(self, first, *slots):
        super().__init__(first.plan)
        emptied = {Slot(stage, seat) for stage, seat in slots}
        self.recorded = {}
        for event in first.events:
            match event:
                case AnswerFinished(answer):
                    self.recorded[Slot(Stage.ANSWERING, answer.seat)] = answer.reply
                case ReviewFinished(review):
                    self.recorded[Slot(Stage.REVIEWING, review.seat)] = replace(review.reply, saw=review.saw)
                case SynthesisFinished(synthesis):
                    reply = replace(synthesis.reply, saw=synthesis.saw)
                    self.recorded[Slot(Stage.SYNTHESISING, CHAIRMAN)] = reply
        self.recorded = {slot: reply for slot, reply in self.recorded.items() if slot not in emptied}

    async def ask(self, slot, prompt, patience):
        return self.recorded.get(slot) or await super().ask(slot, prompt, patience)


async def test_a_late_answer_changes_nothing_that_was_written_before_it_and_the_end_says_so():
    first = Council(plan(3), {(Stage.ANSWERING, 1): FAILED})
    await first.deliberate()
    again = Again(first, (Stage.ANSWERING, 1))
    assert await again.deliberate() is Status.PARTIAL
    assert set(again.asked) == {Slot(Stage.ANSWERING, 1)}
    assert again.ended.reason == "B did not review. The council's answer was written before B answered."
    # Ballots are read by the answers that their reviewers saw.
    before = {event.review.seat: event.review.ballot for event in first.of(ReviewFinished)}
    after = {event.review.seat: event.review.ballot for event in again.of(ReviewFinished)}
    assert after[0] == before[0]
    assert after[0].groups == ((0,), (2,))
    assert again.of(StandingsReady) == first.of(StandingsReady)


async def test_a_review_and_the_chairman_who_are_asked_again_read_the_late_answer():
    first = Council(plan(3), {(Stage.ANSWERING, 1): FAILED})
    await first.deliberate()
    second = Again(first, (Stage.ANSWERING, 1))
    await second.deliberate()
    third = Again(second, *[(Stage.REVIEWING, seat) for seat in range(3)], (Stage.SYNTHESISING, CHAIRMAN))
    assert await third.deliberate() is Status.COMPLETE
    assert {event.review.ballot.groups for event in third.of(ReviewFinished)} == {((0,), (1,), (2,))}
    assert "Answer 1." in str(third.asked[Slot(Stage.SYNTHESISING, CHAIRMAN)])


async def test_with_company_a_single_answer_is_reviewed_and_summed_up():
    first = Council(plan(3), {(Stage.ANSWERING, seat): FAILED for seat in (0, 2)})
    await first.deliberate()
    again = Again(first, (Stage.ANSWERING, 0))
    assert await again.deliberate() is Status.PARTIAL
    assert again.ended.reason == "C did not answer."
    stages = [slot.stage for slot in again.asked]
    assert stages == [Stage.ANSWERING, Stage.REVIEWING, Stage.REVIEWING, Stage.SYNTHESISING]


async def test_what_is_recorded_needs_no_room_in_a_prompt():
    first = Council(plan(3), {(Stage.ANSWERING, 1): FAILED})
    await first.deliberate()
    again = Again(first)
    again.plan = replace(first.plan, members=tuple(replace(each, context=1000) for each in first.plan.members))
    again.plan = replace(again.plan, question="long " * 900)
    await again.deliberate()
    assert not again.asked
    assert again.of(StandingsReady) == first.of(StandingsReady)
