"""A copy of a conversation that was shared: whoever makes it goes on with it, and each of the two can go alone."""

from uuid import uuid4

import pytest
from django.db.models import Sum
from django.urls import reverse
from django.utils import timezone

from conversations import asking, deleting, sharing
from conversations.models import Conversation, Share, Turn
from conversations.tests.links import allow_public_links, answer, ask_more, browser, make
from council.models import Call, Deliberation

pytestmark = pytest.mark.django_db


def copied(client, token: str, request_id=None):
    return client.post(reverse("copy", args=[token]), {"request_id": request_id or uuid4()})


def test_who_has_signed_in_goes_on_with_a_copy(bob, conversation, council):
    ask_more(conversation, council)
    token = make(conversation)
    ask_more(conversation, council, "Third question?", "The third answer.")
    client = browser(bob)
    page = client.get(reverse("copy", args=[token]))
    assert "the 2 questions and answers" in page.text
    # Else a browser would not say where the form comes from, and it would be refused.
    assert page["Referrer-Policy"] == "same-origin"
    response = copied(client, token)
    mine = Conversation.objects.get(owner=bob)
    assert response.url == mine.get_absolute_url()
    page = client.get(response.url).text
    assert "The first answer." in page
    assert "The second answer." in page
    assert "Third question?" not in page
    dates = [list(each.turns.values_list("created", flat=True))[:2] for each in (conversation, mine)]
    assert dates[0] == dates[1]
    turn = asking.ask(bob, "And mine?", council, conversation=mine)
    history = turn.deliberation.plan["history"]
    assert [each["question"] for each in history] == ["First question?", "Second question?"]
    assert "And mine?" not in browser(conversation.owner).get(conversation.get_absolute_url()).text


def test_a_copy_costs_and_asks_nothing(bob, conversation):
    before = Deliberation.objects.count(), Call.objects.aggregate(Sum("cost"))
    copied(browser(bob), make(conversation))
    assert (Deliberation.objects.count(), Call.objects.aggregate(Sum("cost"))) == before


def test_a_double_click_makes_one_copy(bob, conversation):
    token, request_id = make(conversation), uuid4()
    first, second = (copied(browser(bob), token, request_id) for _ in range(2))
    assert first.url == second.url
    assert Conversation.objects.filter(owner=bob).count() == 1
    assert Turn.objects.filter(conversation__owner=bob).count() == 1


def test_the_same_form_sent_to_another_link_makes_another_copy(alice, bob, conversation, council):
    other = asking.ask(alice, "Another question?", council).conversation
    answer(other, "Another answer.")
    request_id = uuid4()
    first, second = (copied(browser(bob), make(each), request_id) for each in (conversation, other))
    assert first.url != second.url
    assert "Another answer." in browser(bob).get(second.url).text


def test_what_has_no_answer_yet_is_not_copied_and_says_so(alice, bob, council):
    nothing_yet = asking.ask(alice, "First question?", council).conversation
    token = make(nothing_yet, live=True)
    client = browser(bob)
    offered, tried = client.get(reverse("copy", args=[token])), copied(client, token)
    assert (offered.status_code, tried.status_code) == (200, 409)
    for page in (offered, tried):
        assert "There is nothing to copy yet" in page.text
        assert "Make the copy" not in page.text
    assert not Conversation.objects.filter(owner=bob).exists()
    answer(nothing_yet, "The first answer.")
    assert copied(client, token).status_code == 302


@pytest.mark.parametrize("allowed", [True, False])
def test_whoever_is_sent_to_sign_in_first_leaves_no_trace_of_the_address(conversation, allowed):
    allow_public_links()
    token = make(conversation, "anyone")
    allow_public_links(allowed=allowed)
    for page in (browser().get(reverse("copy", args=[token]), {"a": "b"}), copied(browser(), token)):
        assert page.status_code == 302
        assert page["X-Robots-Tag"] == "noindex, nofollow"
        assert "no-store" in page["Cache-Control"]
        assert page["Referrer-Policy"] == "no-referrer"
    assert browser().get(reverse("copy", args=[token]), {"a": "b"}).url.endswith("/copy/%3Fa%3Db")


def test_a_copy_of_a_live_link_leaves_out_what_is_not_answered_yet(bob, conversation, council):
    ask_more(conversation, council, text="")
    copied(browser(bob), make(conversation, live=True))
    assert Turn.objects.filter(conversation__owner=bob).count() == 1
    deleting.delete(Conversation.objects.get(owner=bob))
    assert not Deliberation.objects.filter(cancel_requested=True).exists()


def test_nobody_copies_without_signing_in(conversation):
    allow_public_links()
    token = make(conversation, "anyone")
    assert copied(browser(), token).url.startswith(reverse("account_login"))
    assert Conversation.objects.count() == 1


def test_a_link_that_is_revoked_meanwhile_gives_no_copy(bob, conversation):
    make(conversation)
    share = Share.objects.get()
    sharing.revoke(Share.objects.all())
    assert sharing.copy(share, bob, uuid4()) is None
    assert Conversation.objects.count() == 1


@pytest.mark.parametrize("first", ["original", "copy"])
def test_each_outlives_the_other_and_nothing_outlives_both(alice, bob, conversation, first):
    copied(browser(bob), make(conversation))
    mine = Conversation.objects.get(owner=bob)
    gone, kept = (conversation, mine) if first == "original" else (mine, conversation)
    deleting.delete(gone)
    assert deleting.purge(timezone.now()) == 1
    assert "The first answer." in browser(kept.owner).get(kept.get_absolute_url()).text
    deleting.delete(kept)
    deleting.purge(timezone.now())
    assert not Deliberation.objects.exists()
    assert not Call.objects.exists()
    assert not Share.objects.exists()
