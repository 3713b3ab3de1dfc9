"""A change is drawn once for all who have what came before it, while it is written; the others read the rows."""

import asyncio
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.utils import timezone

from conversations import asking, changes, consumers, live
from conversations.changes import Known
from conversations.consumers import ConversationConsumer
from conversations.growing import GrowingTexts
from conversations.live import Live
from conversations.tests import cast
from council import claiming
from council.call_rows import CallEnd
from council.core.events import AnswerFinished, Ended, StageStarted
from council.core.values import Answer, Outcome, Reply, Slot, Stage, Status, Usage
from council.providers.calling import Attempt

pytestmark = pytest.mark.django_db(transaction=True)

SEATS = (0, 1, 2)
BEGINNING = StageStarted(Stage.ANSWERING, SEATS)


def answered(seat: int) -> AnswerFinished:
    return AnswerFinished(Answer(seat, Reply(f"the answer of {seat}", Outcome.COMPLETE)))


@pytest.fixture
def told(monkeypatch):
    """What all viewers are told."""
    messages = []

    async def tell(_conversation, message):
        messages.append(message)

    monkeypatch.setattr(live, "tell", tell)
    return messages


@pytest.fixture
def turn():
    return asking.ask(cast.alice(), "What now?", cast.council())


async def begun(turn) -> Live:
    return Live(turn.conversation_id, await live.in_thread(claiming.claim, turn.deliberation_id))


async def begin(shown: Live) -> None:
    """To the first checkpoint: from then on the rows are known."""
    await happens(shown, BEGINNING)
    shown.grew(SimpleNamespace(slot=Slot(Stage.ANSWERING, 2)), "a word")
    await shown._write_checkpoint()


async def happens(shown: Live, *events) -> None:
    for event in events:
        await shown.emit(event)
    await shown._write()
    await shown._tell_changes(wait=True)


def page(turn) -> ConversationConsumer:
    """The socket of its owner's page, which was empty when it opened; `sent` is what it was sent."""
    consumer = ConversationConsumer()
    consumer.scope = {"cookies": {"sessionid": cast.session_of(turn.conversation.owner)}, "query_string": b""}
    consumer.conversation_id = turn.conversation_id
    consumer.known, consumer.deliberation, consumer.unfinished = Known(0, 0, "?"), "", True
    consumer.updating = asyncio.Lock()
    consumer.sent = []

    async def send(html: str) -> None:
        consumer.sent.append(html)

    async def close(code: int) -> None:
        consumer.closed = code

    consumer._send, consumer.close = send, close
    return consumer


def reads(monkeypatch) -> list[Known]:
    """Each time that a page reads the rows."""
    seen = []

    def look(visible, conversation_id, known):
        seen.append(known)
        return changes.look(visible, conversation_id, known)

    monkeypatch.setattr(consumers, "look", look)
    return seen


def test_who_has_all_that_came_before_reads_nothing(turn, told, monkeypatch):
    seen, consumer = reads(monkeypatch), page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await consumer.changed(told[-1])
        await happens(shown, answered(0))
        await consumer.changed(told[-1])
        await happens(shown, answered(1), answered(2), Ended(Status.COMPLETE))
        assert consumer.unfinished
        await consumer.changed(told[-1])
        return shown

    shown = async_to_sync(play)()
    assert len(seen) == 1
    assert "the answer of 0" in consumer.sent[1]
    assert "the answer of 1" in consumer.sent[2]
    assert consumer.known == Known(turn.pk, shown.recorder.revision, turn.conversation.title, "answering")
    assert not consumer.unfinished


def test_text_that_grows_is_left_as_it_is(turn, told, monkeypatch):
    """The page has more of it than the rows, until the next checkpoint."""
    seen, consumer = reads(monkeypatch), page(turn)
    growing = SimpleNamespace(slot=Slot(Stage.ANSWERING, 2))

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await consumer.changed(told[-1])
        shown.grew(growing, "that was shown")
        await shown._write_checkpoint()
        shown.grew(growing, " already")
        await shown._show()
        await consumer.frame(told[-1])
        await happens(shown, answered(0))
        await consumer.changed(told[-1])

    async_to_sync(play)()
    assert len(seen) == 1
    assert "the answer of 0" in consumer.sent[-1]
    assert "that was shown" not in consumer.sent[-1]


def test_whoever_missed_the_text_before_a_change_reads_the_rows(turn, told, monkeypatch):
    seen, consumer = reads(monkeypatch), page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await consumer.changed(told[-1])
        shown.grew(SimpleNamespace(slot=Slot(Stage.ANSWERING, 2)), "missed")
        await shown._write_checkpoint()
        await happens(shown, answered(0))
        await consumer.changed(told[-1])

    async_to_sync(play)()
    assert len(seen) == 2
    assert "missed" in consumer.sent[-1]


def test_what_is_heard_twice_is_shown_once(turn, told):
    consumer = page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await happens(shown, answered(0))
        for message in (*told, *told):
            await consumer.changed(message)

    async_to_sync(play)()
    assert len(consumer.sent) == 1


def test_who_missed_a_checkpoint_gets_a_frame_with_what_that_closed(turn, told):
    consumer = page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await consumer.changed(told[-1])
        shown.grew(SimpleNamespace(slot=Slot(Stage.ANSWERING, 2)), " and another\n\nMore\n\nMore\n\nMore,")
        await shown._write_checkpoint()
        for piece in (" and more,", " and more"):
            shown.grew(SimpleNamespace(slot=Slot(Stage.ANSWERING, 2)), piece)
            await shown._show()
            await consumer.frame(told[-1])

    async_to_sync(play)()
    first, second = (each for each in told if each["type"] == "frame")
    assert "and another" in first["full"]
    assert "and another" not in first["tail"]
    assert consumer.sent[-2:] == [first["full"], second["tail"]]


def test_text_that_comes_after_what_is_newer_is_not_shown(turn, told):
    consumer = page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        shown.grew(SimpleNamespace(slot=Slot(Stage.ANSWERING, 0)), "on its way")
        await shown._show()
        late = told[-1]
        await happens(shown, answered(0))
        await consumer.changed(told[-1])
        known = consumer.known
        await consumer.frame(late)
        assert consumer.known == known

    async_to_sync(play)()
    assert "the answer of 0" in consumer.sent[-1]
    assert "on its way" not in consumer.sent[-1]


@pytest.mark.parametrize("lacking", ["a change before it", "the stage before it", "the right", "everything"])
def test_whoever_lacks_something_reads_the_rows(turn, told, monkeypatch, lacking):
    seen, consumer = reads(monkeypatch), page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        if lacking != "everything":
            await consumer.changed(told[-1])
        if lacking == "a change before it":
            await happens(shown, answered(1))
        if lacking == "the stage before it":
            consumer.known = Known(turn.pk, consumer.known.revision, consumer.known.title)
        if lacking == "the right":
            consumer.visible = None
        before = len(seen)
        await happens(shown, answered(0))
        await consumer.changed(told[-1])
        return before

    before = async_to_sync(play)()
    assert len(seen) == before + 1
    assert "the answer of 0" in consumer.sent[-1]


def test_a_change_that_cannot_be_drawn_is_recorded_and_read(turn, told, monkeypatch):
    def broken(*_):
        raise ValueError("broken")

    monkeypatch.setattr(changes, "step", broken)
    seen, consumer = reads(monkeypatch), page(turn)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await happens(shown, answered(0))
        await consumer.changed(told[-1])

    async_to_sync(play)()
    assert told[-1]["html"] == ""
    assert len(seen) == 1
    assert "the answer of 0" in consumer.sent[-1]


def test_nothing_is_told_of_what_could_not_be_written(turn, told, monkeypatch):
    async def play():
        shown = await begun(turn)
        await begin(shown)
        write, told_before = shown.recorder.write, list(told)

        def fail(_change):
            raise OperationalError("The database is away.")

        monkeypatch.setattr(shown.recorder, "write", fail)
        with pytest.raises(OperationalError):
            await happens(shown, answered(0))
        await shown._tell_changes(wait=True)
        assert told == told_before
        monkeypatch.setattr(shown.recorder, "write", write)
        await happens(shown, answered(1))
        return told[len(told_before) :]

    (message,) = async_to_sync(play)()
    assert "the answer of 0" in message["html"]
    assert "the answer of 1" in message["html"]


def test_changes_are_told_in_their_order_and_text_after_them(turn, told, monkeypatch):
    """However long one takes to draw; what is written does not wait for it."""
    may_go_on = asyncio.Event()

    async def slowly(function, *given):
        await may_go_on.wait()
        return function(*given)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        monkeypatch.setattr(changes, "drawing", slowly)
        monkeypatch.setattr(changes, "step", lambda rows, before, had: f"{before}")
        for seat in (0, 1):
            await shown.emit(answered(seat))
            await shown._write()
        shown.grew(SimpleNamespace(slot=next(iter(shown.recorder.growing))), "text")
        await shown._show()
        assert len(told) == 1
        assert shown.recorder.revision == 5
        may_go_on.set()
        await asyncio.gather(*(each.html for each in shown._drawings))
        await shown._show()

    async_to_sync(play)()
    assert [(each["type"], each.get("html"), each["revision"]) for each in told[1:]] == [
        ("changed", "3", 4),
        ("changed", "4", 5),
        ("frame", None, 5),
    ]


def test_the_cost_counts_calls_that_fill_no_slot(turn, told):
    """The title's, which is written beside the deliberation."""
    usage = Usage(10, 10, 7_000_000, estimated=False)
    end = CallEnd(0, Attempt(), usage, None, timezone.now(), 0, None)

    async def play():
        shown = await begun(turn)
        await begin(shown)
        shown.other_ended(end)
        await happens(shown, *(answered(seat) for seat in SEATS), Ended(Status.COMPLETE))

    async_to_sync(play)()
    assert "$7" in told[-1]["html"]


def test_a_deliberation_that_was_stopped_is_read(turn, told, monkeypatch):
    seen, consumer = reads(monkeypatch), page(turn)

    async def play():
        async with await begun(turn) as shown:
            await shown.emit(BEGINNING)
        await consumer.changed(told[-1])
        await shown.stop(Status.CANCELLED, "Stopped.")
        await consumer.changed(told[-1])

    async_to_sync(play)()
    assert len(seen) == 2
    assert not consumer.unfinished


def test_a_look_that_fails_gives_nobody_a_right(turn, told, monkeypatch):
    consumer = page(turn)

    def away(*_):
        raise OperationalError("The database is away.")

    async def play():
        shown = await begun(turn)
        await begin(shown)
        await consumer.changed(told[-1])
        await live.in_thread(Session.objects.all().delete)  # the owner signs out
        consumer.visible = None  # it is time to ask again
        look = consumers.look
        monkeypatch.setattr(consumers, "look", away)
        with pytest.raises(OperationalError):
            await consumer._update()
        monkeypatch.setattr(consumers, "look", look)
        sent = len(consumer.sent)
        await happens(shown, answered(0))
        await consumer.changed(told[-1])
        return consumer.sent[sent:], consumer.closed

    assert async_to_sync(play)() == ([], consumers.NOT_FOUND)


def test_no_text_is_lost_from_frames_while_checkpoints_fail(turn):
    claim = claiming.claim(turn.deliberation_id)
    texts = GrowingTexts(claim.id, claim.plan, 1)
    texts.begin(StageStarted(Stage.ANSWERING, (0, 1)))
    texts.begun(2)
    first, second = Slot(Stage.ANSWERING, 0), Slot(Stage.ANSWERING, 1)
    texts.grew(first, "One")
    texts.checkpointed(texts.marks(), 3)
    texts.frame(3, 2)
    texts.grew(first, " and a half")
    texts.marks()  # the database is away,
    texts.marks()  # and once more
    texts.grew(second, "Two")
    texts.checkpointed(texts.marks(), 4)
    assert "and a half" in texts.frame(4, 2)["full"]
