"""Every call of a question, over time: who may look, and what is drawn."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations import asking, sharing
from conversations.models import Share
from conversations.tests import cast
from conversations.timeline import WIDTH, timeline
from council.models import Call, Deliberation

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


@pytest.fixture
def turn():
    """Alice's; one member was asked twice, and the title came after the end."""
    asked = asking.ask(cast.alice(), "Should we?", cast.council())
    deliberation = asked.deliberation
    begin = deliberation.created

    def call(purpose: str, sent: float, first: float | None, ended: float | None, **more) -> None:
        Call.objects.create(
            deliberation=deliberation,
            purpose=purpose,
            model_name="Model <0>",
            provider_name="Test",
            queued=begin + timedelta(seconds=more.pop("queued", sent)),
            sent=begin + timedelta(seconds=sent),
            first_token=first and begin + timedelta(seconds=first),
            ended=ended and begin + timedelta(seconds=ended),
            state="ended" if ended else "sent",
            **more,
        )

    call("answer", 0, None, 2, seat=0, outcome="failed", error="The provider failed on its side.")
    call("answer", 2.5, 3, 5, queued=2, seat=0, outcome="complete", input_tokens=20, output_tokens=30, cost=70_000)
    call("synthesis", 5, 6, 8, outcome="complete")
    call("title", 3, 9, 10, outcome="complete")
    deliberation.status, deliberation.finished = "complete", begin + timedelta(seconds=8)
    deliberation.save()
    return asked


def client_of(person) -> Client:
    client = Client()
    if person:
        client.force_login(person)
    return client


def place(turn) -> str:
    return reverse("calls", args=[turn.conversation_id, turn.pk])


def test_it_lists_every_attempt_with_its_outcome(turn):
    page = client_of(turn.conversation.owner).get(place(turn), headers=HTMX).content.decode()
    assert page.count("<tr class") == 4
    assert "The provider failed on its side." in page
    assert "Model &lt;0&gt;" in page
    assert "20 in<small>30 out</small>" in page
    assert "$0.070" in page
    assert "hx-trigger" not in page  # nothing more will come


def test_its_bars_stand_where_the_calls_were(turn):
    drawn = timeline(turn.deliberation)
    assert drawn.seconds == 10
    failed, answer, title, synthesis = (each.bar for each in drawn.calls)
    assert (failed.sent, failed.waited, failed.wrote) == (0, 200, 0)
    assert (answer.queued, answer.stood) == (200, 50)
    assert (answer.sent, answer.waited, answer.first, answer.wrote) == (250, 50, 300, 200)
    assert (synthesis.first, synthesis.first + synthesis.wrote) == (600, 800)
    assert title.first + title.wrote == WIDTH


def test_a_call_that_goes_on_is_drawn_until_now_and_looked_for_again(turn):
    turn.deliberation.calls.all().delete()
    turn.deliberation.status, turn.deliberation.finished = "running", None
    turn.deliberation.created = began = timezone.now() - timedelta(seconds=20)
    turn.deliberation.save()
    Call.objects.create(deliberation=turn.deliberation, purpose="review", seat=1, sent=began, queued=began)
    (call,) = timeline(turn.deliberation).calls
    assert call.going
    assert call.bar.sent + call.bar.waited == WIDTH
    page = client_of(turn.conversation.owner).get(place(turn), headers=HTMX).content.decode()
    assert f'hx-get="{place(turn)}" hx-trigger="load delay:2s"' in page


def test_a_call_that_never_went_out_is_one_that_stood_in_line(turn):
    turn.deliberation.calls.all().delete()
    begin = turn.deliberation.created
    ended = begin + timedelta(seconds=4)
    Call.objects.create(
        deliberation=turn.deliberation, purpose="review", seat=1, queued=begin, sent=None, state="ended",
        outcome="failed", ended=ended,
    )  # fmt: skip
    (call,) = timeline(turn.deliberation).calls
    assert (call.bar.stood, call.bar.waited, call.seconds, call.stood) == (500, 0, None, 4)


def test_it_is_a_page_of_its_own_without_javascript(turn):
    page = client_of(turn.conversation.owner).get(place(turn)).content.decode()
    assert "<title>Calls" in page
    assert 'href="../../"' in page


@pytest.mark.parametrize("who", ["nobody", "bob"])
def test_it_is_the_owners(turn, who):
    answer = client_of(cast.bob() if who == "bob" else None).get(place(turn))
    assert answer.status_code == (404 if who == "bob" else 302)


def test_a_turn_of_another_conversation_is_not_there(turn):
    other = asking.ask(turn.conversation.owner, "Another?", turn.deliberation.council)
    wrong = reverse("calls", args=[other.conversation_id, turn.pk])
    assert client_of(turn.conversation.owner).get(wrong).status_code == 404


def test_a_link_shows_those_of_its_turns_alone(turn):
    conversation = turn.conversation
    sharing.save(conversation, Share.Audience.TEAM, None, live=False)
    token = sharing.token_of(Share.objects.get())
    later = asking.ask(conversation.owner, "And then?", turn.deliberation.council, conversation=conversation)
    reader = client_of(cast.bob())
    assert reader.get(reverse("shared-calls", args=[token, turn.pk])).status_code == 200
    assert reader.get(reverse("shared-calls", args=[token, later.pk])).status_code == 404
    sharing.revoke(Share.objects.all())
    assert reader.get(reverse("shared-calls", args=[token, turn.pk])).status_code == 404


def test_a_page_of_its_own_says_where_a_practice_model_took_part(turn):
    alice = client_of(turn.conversation.owner)
    assert "practice model" not in alice.get(place(turn)).text
    Deliberation.objects.update(practice=True)
    assert "practice model" in alice.get(place(turn)).text
