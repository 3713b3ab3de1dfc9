"""One slot tried again from its owner's page: where that is offered, the form, and what others see meanwhile."""

import re
from uuid import uuid4

import pytest
from django.contrib.messages import get_messages
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from conversations import asking, changes, presenting, reading, retrying, sharing
from conversations.changes import Known
from conversations.models import Share
from conversations.tests import cast
from conversations.tests.trying_again import ANSWER_B, CHAIR, B, ask
from conversations.tests.worker import carry_out
from council.core.deliberate import could_answer
from council.core.values import Outcome, Slot, Stage
from council.models import Answer, Deliberation, Review, Synthesis

pytestmark = pytest.mark.django_db(transaction=True)

WORDS = {
    Outcome.TRUNCATED: "cut off",
    Outcome.REFUSED: "declined",
    Outcome.FILTERED: "filtered",
    Outcome.EMPTY: "no text",
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "too slow",
    Outcome.CANCELLED: "stopped",
}


@pytest.fixture
def turn(alice, council, provider):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    provider.reset()
    return turn


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


def post(client, turn, slot="answering:1", **headers):
    return client.post(reverse("retry", args=[turn.conversation_id]), {"slot": slot}, headers=headers)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_each_outcome_has_words_and_what_is_not_complete_a_retry(alice, council, client, outcome):
    turn = asking.ask(alice, "What now?", council)
    error = "Why it ended so."
    for seat in range(3):
        how = outcome if seat == 1 else Outcome.COMPLETE
        row = {"deliberation": turn.deliberation, "seat": seat, "state": "ended", "outcome": how, "error": error}
        Answer.objects.create(**row, text="Text.")
        Review.objects.create(**row, text="Text.", ballot_state="abstained")
    Synthesis.objects.create(deliberation=turn.deliberation, state="ended", outcome=outcome, error=error, text="Text.")
    Deliberation.objects.update(status="partial", stage="synthesising", reason="B did not answer.")
    client.force_login(alice)
    page = client.get(turn.conversation.get_absolute_url()).content.decode()
    complete = outcome is Outcome.COMPLETE
    asks = could_answer(outcome)  # a member that could not be reached is not asked to review either
    slots = {f"{slot.stage}:{slot.seat}" for slot in (ANSWER_B, Slot(Stage.REVIEWING, 1), CHAIR)}
    expected = set() if complete else slots if asks else slots - {"reviewing:1"}
    assert set(re.findall(r'value="([a-z]+:-?[0-9])" data-retry', page)) == expected
    assert WORDS.get(outcome, "done") in strip_tags(page)
    card = page[page.index("-answering-1-name") :]
    assert (error in card[: card.index("</article>")]) == (outcome is not Outcome.CANCELLED)
    assert "B did not answer." in page
    assert "Partial" in page


def test_it_leads_back_to_what_is_tried_again(client, turn):
    response = post(client, turn)
    assert response.status_code == 302
    assert response["location"].startswith(turn.conversation.get_absolute_url())
    page = client.get(turn.conversation.get_absolute_url()).content.decode()
    assert f'id="{response["location"].partition("#")[2]}"' in page
    assert 'data-announce="A part of it is tried again."' in page
    assert carry_out(turn).answers.get(seat=1).outcome == "complete"


def test_it_tells_all_viewers(client, turn, monkeypatch, caplog):
    messages = []

    async def tell(conversation_id, message):
        messages.append((conversation_id, message["type"]))

    monkeypatch.setattr("conversations.viewers.tell", tell)
    known = Known(turn.pk, Deliberation.objects.get().revision, turn.conversation.title, "synthesising")
    with caplog.at_level("INFO"):
        assert post(client, turn, **{"HX-Request": "true"}).status_code == 204
    assert messages == [(turn.conversation_id, "renewed")]
    (said,) = [
        each.msg for each in caplog.records if isinstance(each.msg, dict) and each.msg["event"] == "Trying again"
    ]
    assert said["deliberation"] == str(turn.deliberation_id)
    what = changes.since(turn.conversation, known)
    assert what.unfinished
    assert "A part of it is tried again." in what.html


@pytest.mark.parametrize("how", ["by htmx", "without"])
def test_it_is_refused_while_something_is_under_way(client, turn, how):
    headers = {"HX-Request": "true"} if how == "by htmx" else {}
    post(client, turn)
    response = post(client, turn, **headers)
    assert response.status_code == 409
    said = response["HX-Trigger"] if headers else str(*get_messages(response.wsgi_request))
    assert "still at work" in said
    Deliberation.objects.update(status="complete")
    asking.ask(turn.conversation.owner, "And now?", turn.deliberation.council, conversation=turn.conversation)
    assert post(client, turn, **headers).status_code == 409


@pytest.mark.parametrize(
    "slot",
    ["answering:0", "reviewing:1", "synthesising:-1", "answering:9", "answering:-1", "", "x:1", "answering:x"],
)
def test_it_is_refused_where_there_is_nothing_to_be_tried_again(client, turn, slot):
    response = post(client, turn, slot)
    assert response.status_code == 422
    assert "nothing to be tried again" in response.content.decode()
    assert not Deliberation.objects.get().retried


def test_a_turn_that_has_been_followed_up_stays_as_it_is(client, turn, alice, council):
    carry_out(asking.ask(alice, "And now?", council, conversation=turn.conversation))
    assert post(client, turn).status_code == 422
    turn.deliberation.refresh_from_db()
    assert not turn.deliberation.retried


def test_a_turn_that_is_part_of_a_copy_stays_as_it_is(client, turn):
    share = sharing.save(turn.conversation, Share.Audience.TEAM, None, live=False)
    copy = sharing.copy(share, cast.bob(), uuid4())
    response = post(client, turn)
    assert response.status_code == 422
    assert "part of a copy" in response.content.decode()
    assert not Deliberation.objects.get().retried
    for conversation in (turn.conversation, copy):
        (rows,) = reading.turns(conversation.pk)
        assert presenting.view(rows).copied
    copy.delete()
    assert post(client, turn).status_code == 302


def test_a_snapshot_shows_what_there_was_until_something_better_has_come(client, turn, provider):
    bob, share = Client(), sharing.save(turn.conversation, Share.Audience.TEAM, None, live=False)
    bob.force_login(cast.bob())
    address = reverse("shared", args=[sharing.token_of(share)])

    def main():
        page = bob.get(address).content.decode()
        return page[page.index('id="turns"') :]

    before = main()
    post(client, turn)
    during = main()
    assert "unfinished" not in during
    assert "The provider refused the API key" in during
    assert sharing.last_ended(turn.conversation) == turn
    assert not sharing.behind(share)
    assert sharing.to_copy(share) == []
    assert before.count("<article") == during.count("<article")
    carry_out(turn)
    assert "The provider refused the API key" not in main()


def test_what_could_not_be_queued_is_not_emptied(client, turn, monkeypatch):
    def away(_arguments):
        raise OperationalError("The database is away.")

    monkeypatch.setattr(retrying.jobs, "queue", away)
    with pytest.raises(OperationalError):
        post(client, turn)
    assert not Deliberation.objects.get().unfinished
    assert Deliberation.objects.get().answers.get(seat=1).outcome == "failed"
