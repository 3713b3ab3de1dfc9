"""What a conversation is called."""

import asyncio
from dataclasses import replace

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError

from conversations import asking, changes, presenting, reading, tasks, titles
from conversations.changes import Known
from conversations.live import Live
from conversations.models import Conversation
from conversations.templatetags.figures import money
from conversations.tests.worker import carry_out
from council import call_rows, claiming
from council.models import Call, Deliberation, LanguageModel


@pytest.mark.parametrize(
    "said", ["Outbox or Kafka:", "“Outbox or Kafka.”", "Title: Outbox or Kafka", "**Outbox or Kafka**:"]
)
def test_a_title_of_a_model_is_its_words_alone(said):
    assert titles._tidy(said) == "Outbox or Kafka"


@pytest.mark.django_db(transaction=True)
def test_it_titles_a_conversation(alice, council, provider):
    carry_out(asking.ask(alice, "Should we move our pipeline?", council))
    conversation = Conversation.objects.get()
    assert conversation.titled
    assert conversation.title != "Should we move our pipeline?"
    assert Call.objects.get(purpose="title").deliberation == Deliberation.objects.get()


@pytest.mark.django_db(transaction=True)
def test_it_keeps_the_questions_start_where_a_title_fails_and_nothing_else_is_lost(alice, council, provider):
    provider.script({"kind": "title"}, fault="refuse_auth")
    assert carry_out(asking.ask(alice, "Should we move our pipeline?", council)).status == "complete"
    assert Conversation.objects.get().title == "Should we move our pipeline?"


@pytest.mark.django_db(transaction=True)
def test_one_is_asked_for_with_the_first_question_alone(alice, council, provider):
    """Also where none came of that."""
    provider.script({"kind": "title"}, fault="refuse_auth")
    turn = asking.ask(alice, "Should we move our pipeline?", council)
    first = carry_out(turn)
    carry_out(asking.ask(alice, "And what of the rest?", council, conversation=turn.conversation))
    assert Call.objects.get(purpose="title").deliberation == first


@pytest.mark.django_db(transaction=True)
def test_what_it_cost_after_the_end_is_brought_to_open_pages(alice, council, provider):
    LanguageModel.objects.update(input_price=10**6, output_price=10**6)
    provider.script({"kind": "title"}, first_token_ms=800)
    turn = asking.ask(alice, "Should we move our pipeline?", council)
    ends = []

    async def look():
        while not ends:
            await asyncio.sleep(0.02)
            ends.extend(await tasks.in_thread(lambda: list(Deliberation.objects.filter(finished__isnull=False))))
        ends.append(await tasks.in_thread(page))

    def page():
        conversation = Conversation.objects.get()
        return conversation, Known(turn.pk, ends[0].revision, conversation.title, ends[0].stage)

    carry_out(turn, look)
    conversation, known = ends[1]
    assert not changes.since(conversation, replace(known, revision=Deliberation.objects.get().revision)).html
    (now,) = reading.turns(conversation.pk)
    assert money(presenting.view(now).cost) in changes.since(conversation, known).html
    assert Call.objects.get(purpose="title").ended > ends[0].finished


@pytest.mark.django_db(transaction=True)
def test_one_whose_end_could_not_be_written_is_not_left_open(alice, council, provider, monkeypatch):
    def away(*_):
        raise OperationalError

    monkeypatch.setattr(call_rows, "end", away)
    assert carry_out(asking.ask(alice, "Should we move our pipeline?", council)).status == "complete"
    left = Call.objects.get(purpose="title")
    assert (left.state, left.outcome, left.unknown) == ("ended", "unknown", True)
    assert left.error.startswith("How it ended could not be written down.")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", ["before it asks", "while it asks"])
def test_a_worker_that_was_replaced_writes_none(alice, council, provider, monkeypatch, when):
    """And asks for none where it can be known: the one that has taken over does."""
    turn = asking.ask(alice, "Should we move our pipeline?", council)

    async def take_over(*_):
        await tasks.in_thread(claiming.claim, turn.deliberation_id)
        return "Outbox or Kafka"

    async def play():
        async with tasks.lifespan():
            claim = await tasks.in_thread(claiming.claim, turn.deliberation_id)
            if when == "while it asks":
                monkeypatch.setattr(titles, "suggest", take_over)
            else:
                await take_over()
            await tasks._title(claim, Live(turn.conversation_id, claim))

    async_to_sync(play)()
    assert not Call.objects.filter(purpose="title").exists()
    assert not Conversation.objects.get().titled


@pytest.mark.django_db(transaction=True)
def test_a_title_that_a_person_gave_stays(alice, council, provider):
    turn = asking.ask(alice, "Should we?", council)
    Conversation.objects.update(title="Mine", titled=True)
    carry_out(turn)
    assert Conversation.objects.get().title == "Mine"
    assert "title" not in {each["kind"] for each in provider.requests()}
