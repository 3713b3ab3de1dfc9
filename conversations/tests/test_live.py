"""The page after any subset of frames, and a look, equals the page after a reload."""

import asyncio
import random
from dataclasses import replace

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from conversations import asking, changes, live, reading
from conversations.changes import Known
from conversations.consumers import ConversationConsumer
from conversations.live import Live
from conversations.tests import cast, dom
from council import claiming, plans
from council.call_rows import NewCall
from council.core.errors import Stale
from council.core.events import (
    AnswerFinished,
    Ended,
    ReviewFinished,
    StageStarted,
    StandingsReady,
    SynthesisFinished,
)
from council.core.scoring import standings
from council.core.values import (
    CHAIRMAN,
    Answer,
    Ballot,
    BallotState,
    Outcome,
    Reply,
    Review,
    Slot,
    Stage,
    Status,
    Synthesis,
)
from council.models import Call

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """# A heading

Some *words* and `code` in a paragraph
that goes on.

- one
- two

  still two

1. first

2. second

```python
def f():
    return 1
```

| a | b |
|---|---|
| 1 | 2 |

The end of {}.
"""


def call_of(slot: Slot) -> NewCall:
    return NewCall(Call.Purpose.ANSWER, None, slot)


class Viewer:
    """A page that was loaded at some moment, and the real consumer behind its socket, which loses messages."""

    def __init__(self, client, conversation, deaf: float, rng: random.Random) -> None:
        self.client, self.conversation, self.deaf, self.rng = client, conversation, deaf, rng
        response = client.get(conversation.get_absolute_url())
        self.page = dom.parse(response.content.decode())
        self.consumer = ConversationConsumer()
        self.consumer.scope = {"cookies": {name: each.value for name, each in client.cookies.items()}}
        self.consumer.conversation_id = conversation.pk
        self.consumer.known = Known(response.context["after"], response.context["revision"], conversation.title)
        self.consumer.deliberation, self.consumer.unfinished, self.consumer.heard = "", True, 0.0
        self.consumer.told = 1.0
        self.consumer.updating = live.asyncio.Lock()
        self.consumer._send = self.receive

    async def receive(self, html: str) -> None:
        dom.apply(self.page, html)

    async def hear(self, message: dict) -> None:
        if self.rng.random() >= self.deaf:
            await getattr(self.consumer, message["type"])(message)
            if self.rng.random() < 0.1:
                await getattr(self.consumer, message["type"])(message)

    def turns(self):
        return self.page.get("turns").plain()


async def same_rows(shown: Live) -> None:
    """What is drawn for viewers is what a reload would read."""
    if shown._rows is None:
        return  # nothing is drawn before the first checkpoint
    stored = await live.in_thread(reading.of_deliberation, shown.conversation_id, shown.recorder.id)
    assert plain(shown._rows) == plain(stored)


def plain(rows: reading.TurnRows) -> dict:
    """The values of rows; a key that only the database knows is of no use to a page."""
    slots = [*rows.answers, *rows.reviews, *([rows.synthesis] if rows.synthesis else [])]
    columns = [
        {field.attname: getattr(each, field.attname) for field in each._meta.concrete_fields if field.attname != "id"}
        for each in [rows.deliberation, *slots]
    ]
    return {"turn": rows.turn.pk, "cost": rows.cost, "columns": columns}


@pytest.mark.parametrize("seed", range(12))
def test_it_equals_a_reload_after_any_subset_of_frames_and_a_look(seed, monkeypatch):
    rng = random.Random(seed)
    alice, council = cast.alice(), cast.council()
    client = Client()
    client.force_login(alice)
    turn = asking.ask(alice, "What now?", council)
    pages: list[Viewer] = []

    async def tell(conversation_id, message):
        for viewer in pages:
            await viewer.hear(message)

    monkeypatch.setattr(live, "tell", tell)

    async def arrive():
        deaf = rng.choice([0.0, 0.1, 0.5, 0.9])
        pages.append(await live.in_thread(Viewer, client, turn.conversation, deaf, rng))

    async def play():
        claim = await live.in_thread(claiming.claim, turn.deliberation_id)
        shown = Live(turn.conversation_id, claim)
        await arrive()

        async def emit(event):
            await shown.emit(event)
            await shown._write()
            await shown._tell_changes(wait=True)
            await same_rows(shown)

        async def grow(slots, texts):
            left = dict(zip(slots, texts, strict=True))
            while left:
                slot = rng.choice(list(left))
                size = rng.randint(1, 12)
                shown.grew(call_of(slot), left[slot][:size])
                if rng.random() < 0.05:
                    shown.grew(call_of(slot), "")
                left[slot] = left[slot][size:]
                if not left[slot]:
                    del left[slot]
                if rng.random() < 0.15 and (frame := shown._texts.frame(shown.recorder.revision, shown._changed)):
                    await tell(None, frame)
                if rng.random() < 0.04:
                    await shown._write_checkpoint()
                    await same_rows(shown)
                if rng.random() < 0.01 and len(pages) < 5:
                    await arrive()
                if rng.random() < 0.01:
                    await rng.choice(pages).consumer._update()

        await emit(StageStarted(Stage.ANSWERING, (0, 1, 2)))
        texts = [TEXT.format(seat) for seat in range(3)]
        await grow([Slot(Stage.ANSWERING, seat) for seat in range(3)], texts)
        for seat in rng.sample(range(3), 3):
            await emit(AnswerFinished(Answer(seat, Reply(texts[seat], Outcome.COMPLETE))))
        labels = [claim.plan.orders[seat].labels for seat in range(3)]
        await emit(StageStarted(Stage.REVIEWING, (0, 1, 2)))
        reviews = [
            '{"critique": "' + TEXT.format(labels[seat][0]).replace("\n", "\\n") + '", "ranking": [["x"]]}'
            for seat in range(3)
        ]
        await grow([Slot(Stage.REVIEWING, seat) for seat in range(3)], reviews)
        ballots = []
        for seat in range(3):
            ballots.append(
                Ballot(((seat,), (0, 1, 2)[:seat]), BallotState.VALID)
                if seat
                else Ballot((), BallotState.INVALID, "No")
            )
            await emit(ReviewFinished(Review(seat, Reply(reviews[seat], Outcome.COMPLETE), ballots[-1])))
        await emit(StandingsReady(standings(ballots)))
        await emit(StageStarted(Stage.SYNTHESISING, (CHAIRMAN,)))
        final = TEXT.format(f"[{claim.plan.common[1]}]")
        await grow([Slot(Stage.SYNTHESISING, CHAIRMAN)], [final])
        # In the middle of the last stage, after a look, every page is what a reload shows.
        await shown._write_checkpoint()
        for viewer in pages:
            await viewer.consumer._update()
        fresh = (await live.in_thread(Viewer, client, turn.conversation, 0, rng)).turns()
        for viewer in pages:
            assert dom.differences(viewer.turns(), fresh) == []
        await emit(SynthesisFinished(Synthesis(Reply(final, Outcome.COMPLETE))))
        await emit(Ended(Status.COMPLETE))
        for viewer in pages:
            await viewer.consumer._update()
        fresh = (await live.in_thread(Viewer, client, turn.conversation, 0, rng)).turns()
        for viewer in pages:
            assert dom.differences(viewer.turns(), fresh) == []
        return len(pages)

    assert async_to_sync(play)() >= 1


def test_it_shows_a_frame_to_whoever_has_the_last_checkpoint_or_the_one_before(monkeypatch):
    alice, council = cast.alice(), cast.council()
    turn = asking.ask(alice, "What now?", council)

    async def tell(conversation_id, message):
        pass

    monkeypatch.setattr(live, "tell", tell)

    async def play():
        claim = await live.in_thread(claiming.claim, turn.deliberation_id)
        shown = Live(turn.conversation_id, claim)
        await shown.emit(StageStarted(Stage.ANSWERING, (0, 1, 2)))
        await shown._write()
        call = call_of(Slot(Stage.ANSWERING, 0))
        shown.grew(call, "one\n\ntwo\n\n")
        first = shown._texts.frame(shown.recorder.revision, shown._changed)
        await shown._write_checkpoint()
        shown.grew(call, "three")
        second = shown._texts.frame(shown.recorder.revision, shown._changed)
        return first, second

    first, second = async_to_sync(play)()
    assert first["revision"] < second["revision"]
    assert second["base"] == first["checkpoint"]
    assert "one" not in second["tail"]
    assert all(word in second["full"] for word in ("two", "three"))


@pytest.mark.parametrize(
    ("stage", "pieces", "urgent"),
    [
        (Stage.ANSWERING, ["One", " two", " three"], [True, False, False]),
        (Stage.ANSWERING, ["", "", "One", " two"], [True, False, True, False]),
        (Stage.REVIEWING, ['{"', 'critique": "', "A is", " right"], [True, False, True, False]),
        (Stage.REVIEWING, ["", "A is", " right"], [True, True, False]),
    ],
)
def test_the_first_sign_of_life_and_the_first_text_are_shown_at_once(stage, pieces, urgent):
    turn = asking.ask(cast.alice(), "What now?", cast.council())

    async def play():
        shown = Live(turn.conversation_id, await live.in_thread(claiming.claim, turn.deliberation_id))
        await shown.emit(StageStarted(stage, (0, 1, 2)))
        await shown._write()
        for piece in pieces:
            shown._urgent.clear()
            shown.grew(call_of(Slot(stage, 0)), piece)
            yield shown._urgent.is_set()

    async def collect():
        return [each async for each in play()]

    assert async_to_sync(collect)() == urgent


def test_a_call_goes_out_before_pages_hear_of_it(monkeypatch):
    turn = asking.ask(cast.alice(), "What now?", cast.council())
    order = []

    async def tell(conversation_id, message):
        order.append("told")

    monkeypatch.setattr(live, "tell", tell)

    async def play():
        claim = await live.in_thread(claiming.claim, turn.deliberation_id)
        async with Live(turn.conversation_id, claim) as shown:
            await shown.emit(StageStarted(Stage.ANSWERING, (0, 1, 2)))
            model = plans.model_of(claim.stored, 0)
            await shown.sending(NewCall(Call.Purpose.ANSWER, model, Slot(Stage.ANSWERING, 0)))
            order.append("sent")

    async_to_sync(play)()
    assert order == ["sent", "told"]


def test_what_is_folded_away_does_not_come_a_second_time():
    turn = asking.ask(cast.alice(), "What now?", cast.council())
    recorder, seats = live.Recorder(claiming.claim(turn.deliberation_id)), (0, 1, 2)

    def write(*events):
        for event in events:
            if isinstance(event, StageStarted):
                recorder.begin(event)
        recorder.write(recorder.change(events))

    def reply(text):
        return Reply(text, Outcome.COMPLETE)

    answers = [AnswerFinished(Answer(seat, reply("an answer"))) for seat in seats]
    ballots = [Ballot((seats,), BallotState.VALID)] * 3
    reviews = [ReviewFinished(Review(seat, reply('{"critique": "a critique"}'), ballots[seat])) for seat in seats]
    write(StageStarted(Stage.ANSWERING, seats))
    write(*answers, StageStarted(Stage.REVIEWING, seats))
    first = changes.since(turn.conversation, Known(turn.pk, 0))
    assert "an answer" in first.html
    write(*reviews, StandingsReady(standings(ballots)), StageStarted(Stage.SYNTHESISING, (CHAIRMAN,)))
    second = changes.since(turn.conversation, first.known)
    assert "an answer" not in second.html
    assert "a critique" in second.html
    write(SynthesisFinished(Synthesis(reply("the end"))), Ended(Status.COMPLETE))
    third = changes.since(turn.conversation, second.known)
    assert "an answer" not in third.html
    assert "a critique" not in third.html
    assert "the end" in third.html
    of_a_stranger = changes.since(turn.conversation, replace(second.known, stage=""))
    assert "an answer" in of_a_stranger.html
    assert "a critique" in of_a_stranger.html


def test_it_takes_no_more_text_once_another_worker_has_taken_over(monkeypatch):
    turn = asking.ask(cast.alice(), "What now?", cast.council())
    slot = Slot(Stage.ANSWERING, 0)

    async def play():
        shown = Live(turn.conversation_id, await live.in_thread(claiming.claim, turn.deliberation_id))
        async with shown:
            await shown.emit(StageStarted(Stage.ANSWERING, (0, 1, 2)))
            await live.in_thread(claiming.claim, turn.deliberation_id)
            with pytest.raises(Stale):
                await write(shown)

    async def write(shown):
        while True:
            shown.grew(call_of(slot), "text")
            await asyncio.sleep(0.01)

    async_to_sync(play)()


@pytest.mark.parametrize("seed", range(6))
def test_it_equals_a_reload_while_a_part_is_tried_again_and_after_that(seed, monkeypatch):
    rng = random.Random(seed)
    alice, council = cast.alice(), cast.council()
    client = Client()
    client.force_login(alice)
    turn = asking.ask(alice, "What now?", council)
    pages: list[Viewer] = []
    slot = [Slot(Stage.ANSWERING, 1), Slot(Stage.REVIEWING, 1), Slot(Stage.SYNTHESISING, CHAIRMAN)][seed % 3]

    async def tell(conversation_id, message):
        for viewer in pages:
            await viewer.hear(message)

    monkeypatch.setattr(live, "tell", tell)

    def reply(slot_now, text="Done.", outcome=Outcome.COMPLETE):
        return Reply("Half of it", Outcome.TRUNCATED, "Cut.") if slot_now == slot else Reply(text, outcome)

    async def compare():
        for viewer in pages:
            await viewer.consumer._update()
        fresh = (await live.in_thread(Viewer, client, turn.conversation, 0, rng)).turns()
        for viewer in pages:
            assert dom.differences(viewer.turns(), fresh) == []

    async def play():
        shown = Live(turn.conversation_id, await live.in_thread(claiming.claim, turn.deliberation_id))

        async def happens(*events):
            for event in events:
                await shown.emit(event)
            await shown._write()
            await shown._tell_changes(wait=True)

        async def arrive():
            pages.append(await live.in_thread(Viewer, client, turn.conversation, rng.choice([0.0, 0.5, 0.9]), rng))

        ballots = [Ballot(((0,), (1,), (2,)), BallotState.VALID)] * 3

        def all_answers():
            return [AnswerFinished(Answer(seat, reply(Slot(Stage.ANSWERING, seat)))) for seat in range(3)]

        def all_reviews():
            replies = [reply(Slot(Stage.REVIEWING, seat), '{"critique": "Fine."}') for seat in range(3)]
            return [ReviewFinished(Review(seat, replies[seat], ballots[seat], (0, 1, 2))) for seat in range(3)]

        stages = [
            StageStarted(Stage.ANSWERING, (0, 1, 2)),
            StageStarted(Stage.REVIEWING, (0, 1, 2)),
            StageStarted(Stage.SYNTHESISING, (CHAIRMAN,)),
        ]
        await arrive()
        await happens(stages[0])
        shown.grew(call_of(Slot(Stage.ANSWERING, 0)), "Some")
        await shown._write_checkpoint()
        await happens(*all_answers(), stages[1])
        await happens(*all_reviews(), StandingsReady(standings(ballots)), stages[2])
        await arrive()
        await happens(SynthesisFinished(Synthesis(reply(Slot(Stage.SYNTHESISING, CHAIRMAN)), (0, 1, 2))))
        await happens(Ended(Status.COMPLETE))
        await compare()

        await live.in_thread(claiming.reopen, turn.deliberation_id, turn.conversation_id, slot)
        await tell(None, {"type": "renewed"})
        await compare()
        shown = Live(turn.conversation_id, await live.in_thread(claiming.claim, turn.deliberation_id))
        await happens(stages[0], *[each for each in all_answers() if slot != Slot(Stage.ANSWERING, each.answer.seat)])
        if slot.stage is not Stage.ANSWERING:
            others = [each for each in all_reviews() if slot != Slot(Stage.REVIEWING, each.review.seat)]
            await happens(stages[1], *others)
        if slot.stage is Stage.SYNTHESISING:
            await happens(StandingsReady(standings(ballots)), stages[2])
        await arrive()
        for piece in ("One\n\ntwo", " three\n\n", "four"):
            shown.grew(call_of(slot), piece)
            if frame := shown._texts.frame(shown.recorder.revision, shown._changed):
                await tell(None, frame)
            if rng.random() < 0.7:
                await shown._write_checkpoint()
                await same_rows(shown)
        await shown._write_checkpoint()
        await compare()
        new = Reply("One\n\ntwo three\n\nfour", Outcome.COMPLETE)
        if rng.random() < 0.5:
            kept = shown.recorder.kept[slot]
            new = kept.or_better(Reply("", Outcome.FAILED, "It is down."))
        match slot.stage:
            case Stage.ANSWERING:
                await happens(AnswerFinished(Answer(1, new)))
                await same_rows(shown)
                await happens(stages[1], *all_reviews(), StandingsReady(standings(ballots)), stages[2])
                await happens(SynthesisFinished(Synthesis(Reply("Done.", Outcome.COMPLETE), (0, 1, 2))))
            case Stage.REVIEWING:
                await happens(ReviewFinished(Review(1, new, ballots[1], (0, 1, 2))))
                await happens(StandingsReady(standings(ballots)), stages[2])
                await happens(SynthesisFinished(Synthesis(Reply("Done.", Outcome.COMPLETE), (0, 1, 2))))
            case Stage.SYNTHESISING:
                await happens(SynthesisFinished(Synthesis(new, (0, 1, 2))))
        await happens(Ended(Status.COMPLETE))
        await same_rows(shown)
        await compare()
        return len(pages)

    assert async_to_sync(play)()
