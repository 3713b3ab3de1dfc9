"""For whom a link opens and what it shows; one that is over looks as if it never was."""

import re
from datetime import timedelta
from itertools import product

import pytest
from django.urls import reverse
from django.utils import timezone

from conversations import deleting, sharing
from conversations.models import Conversation, Share
from conversations.tests.links import allow_public_links, ask_more, browser, make, place, post

pytestmark = pytest.mark.django_db

AUDIENCES = ("team", "anyone")
ENDED = ["revoked", "expired", "deleted", "owner switched off", "not allowed", "never existed"]
WAYS = [each for each in product(ENDED, AUDIENCES) if each != ("not allowed", "team")]


def end(how: str, conversation, token: str) -> str:
    """End a link so; the token to try."""
    match how:
        case "revoked":
            sharing.revoke(Share.objects.all())
        case "expired":
            Share.objects.update(expires=timezone.now() - timedelta(seconds=1))
        case "deleted":
            deleting.delete(conversation)
        case "owner switched off":
            type(conversation.owner).objects.filter(pk=conversation.owner_id).update(is_active=False)
        case "not allowed":
            allow_public_links(allowed=False)
        case _:
            return "x" * 43
    return token


def test_a_team_link_opens_for_whoever_has_signed_in(bob, conversation):
    token = make(conversation)
    page = browser(bob).get(place(token))
    assert page.status_code == 200
    assert "First question?" in page.text
    assert "The first answer." in page.text
    assert "Somebody&#39;s own." in page.text or "Somebody's own." in page.text
    away = browser().get(place(token))
    assert away.url == f"{reverse('account_login')}?next={place(token)}"


def test_a_link_for_anyone_opens_for_anyone(bob, conversation):
    allow_public_links()
    token = make(conversation, "anyone")
    for person in (None, bob):
        assert "The first answer." in browser(person).get(place(token)).text


@pytest.mark.parametrize(("how", "audience"), WAYS)
@pytest.mark.parametrize("path", ["shared", "shared-changes", "copy"])
def test_one_that_is_over_looks_as_if_it_never_was(alice, bob, conversation, how, audience, path):
    allow_public_links()
    token = make(conversation, audience)
    never = reverse(path, args=["y" * 43])
    tried = reverse(path, args=[end(how, conversation, token)])
    for person in (bob, None) if how == "owner switched off" else (alice, bob, None):
        client = browser(person)
        one, other = client.get(tried), client.get(never)
        assert one.status_code == other.status_code == (404 if person else 302)
        assert without_places(one.headers) == without_places(other.headers)
        if person:
            assert without_tokens(one.text) == without_tokens(other.text)
            assert "This link leads nowhere" in one.text
        else:
            assert one.url == f"{reverse('account_login')}?next={tried}"
            assert other.url == f"{reverse('account_login')}?next={never}"


def test_what_is_over_costs_as_many_queries_as_what_never_was(bob, conversation, django_assert_num_queries):
    token = make(conversation)
    client = browser(bob)
    client.get(place("z" * 43))
    for tried in (token, "y" * 43):
        sharing.revoke(Share.objects.all())
        with django_assert_num_queries(4):  # session, person, link; that it is refused is counted
            client.get(place(tried))


def test_nobody_indexes_it_refers_to_it_or_keeps_it(bob, conversation):
    token = make(conversation)
    for client, address in ((browser(bob), place(token)), (browser(bob), place("no")), (browser(), place(token))):
        response = client.get(address)
        assert response["X-Robots-Tag"] == "noindex, nofollow"
        assert response["Referrer-Policy"] == "no-referrer"
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
    assert '<meta name="robots" content="noindex, nofollow">' in browser(bob).get(place(token)).text


def test_it_says_who_and_when_and_never_the_address_of_who_has_no_name(alice, bob, conversation):
    token = make(conversation)
    page = browser(bob).get(place(token)).text
    assert "Shared by <bdi>Alice</bdi>" in page
    assert Share.objects.get().taken.isoformat() in page
    alice.name = ""
    alice.save()
    page = browser(bob).get(place(token)).text
    assert "Shared by a colleague" in page
    assert alice.email not in page


def test_it_is_to_be_read(bob, conversation):
    token = make(conversation)
    page = browser(bob).get(place(token)).text
    assert 'id="composer"' not in page
    assert 'id="stop"' not in page
    assert "<form" not in page
    assert browser(bob).post(place(token)).status_code == 405


def test_it_counts_who_opens_it_but_not_its_owner(alice, bob, conversation):
    allow_public_links()
    token = make(conversation, "anyone")
    for person in (alice, bob, None):
        browser(person).get(place(token))
    browser(bob).head(place(token))
    browser(bob).get(f"{place(token)}changes/")
    browser(bob).get(f"{place(token)}?again=1")
    assert Share.objects.get().opened == 2


def without_places(headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in {"Location", "Expires"}}


def without_tokens(page: str) -> str:
    return re.sub(r'csrfmiddlewaretoken" value="\w+"', "", page)


class TestWhatItShows:
    def test_a_snapshot_stays_as_it_was_until_it_is_updated(self, alice, bob, conversation, council):
        token = make(conversation)
        title = conversation.title
        ask_more(conversation, council)
        Conversation.objects.update(title="Renamed in private")
        for address in (place(token), f"{place(token)}changes/?after=0&revision=0"):
            page = browser(bob).get(address).text
            assert "Second question?" not in page
            assert "Renamed" not in page
        assert title in browser(bob).get(place(token)).text
        post(browser(alice), conversation, action="update")
        page = browser(bob).get(place(token)).text
        assert "The second answer." in page
        assert "Renamed in private" in page

    def test_a_change_of_its_settings_is_no_update(self, alice, bob, conversation, council):
        token = make(conversation)
        ask_more(conversation, council)
        post(browser(alice), conversation, audience="team", expiry="30")
        assert "Second question?" not in browser(bob).get(place(token)).text

    def test_a_snapshot_ends_before_what_is_not_answered_yet(self, bob, conversation, council):
        ask_more(conversation, council, text="")
        assert "Second question?" not in browser(bob).get(place(make(conversation))).text

    def test_a_live_link_shows_all_there_is(self, bob, conversation, council):
        token = make(conversation, live=True)
        known = f"{place(token)}changes/?after=0&revision=0"
        ask_more(conversation, council, text="")
        assert "Second question?" in browser(bob).get(place(token)).text
        changed = browser(bob).get(known).json()
        assert "Second question?" in changed["content"]
        assert changed["unfinished"]

    def test_a_live_link_that_becomes_a_snapshot_ends_there(self, bob, conversation, council):
        token = make(conversation, live=True)
        make(conversation)
        ask_more(conversation, council)
        assert "Second question?" not in browser(bob).get(place(token)).text
