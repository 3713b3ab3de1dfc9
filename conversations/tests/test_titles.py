"""What a conversation is called."""

import pytest

from conversations import asking, titles
from conversations.models import Conversation
from conversations.tests.worker import carry_out
from council.models import Call, Deliberation


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
def test_a_title_that_a_person_gave_stays(alice, council, provider):
    turn = asking.ask(alice, "Should we?", council)
    Conversation.objects.update(title="Mine", titled=True)
    carry_out(turn)
    assert Conversation.objects.get().title == "Mine"
    assert "title" not in {each["kind"] for each in provider.requests()}
