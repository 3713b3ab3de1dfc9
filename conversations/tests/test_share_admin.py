"""What the administrator sees of links: who shares, with whom and until when; never what."""

import html
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.tests import cast as people
from conversations import asking, sharing
from conversations.models import Share
from conversations.tests import cast

pytestmark = pytest.mark.django_db
LIST = reverse("admin:conversations_share_changelist")


@pytest.fixture
def share():
    """Of Alice, who has no name here."""
    conversation = asking.ask(cast.alice(), "A secret question?", cast.council()).conversation
    return sharing.save(conversation, "team", None, live=True)


def browser(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def pages(client, share) -> list[str]:
    addresses = (LIST, f"{LIST}?q=alice", reverse("admin:conversations_share_change", args=[share.pk]))
    return [html.unescape(client.get(each).text) for each in addresses]


def test_it_lists_who_and_with_whom_and_never_what_nor_the_address(share):
    for page in pages(browser(people.alice()), share):
        assert "Alice" in page
        assert "Team" in page
        for hidden in ("secret question", share.token, share.digest, str(share.conversation_id)):
            assert hidden not in page


@pytest.mark.parametrize("query", ["secret", "token"])
def test_what_is_shared_cannot_be_searched_for(share, query):
    query = share.token if query == "token" else query
    assert "0 links" in browser(people.alice()).get(f"{LIST}?q={query}").text


def test_an_administrator_revokes_them(share):
    page = browser(people.alice()).post(LIST, {"action": "revoke", "_selected_action": [share.pk]}, follow=True)
    assert "1 link was revoked." in page.text
    share.refresh_from_db()
    assert share.revoked
    assert LogEntry.objects.get().change_message == "Revoked."


def test_staff_need_the_right_to_it(share):
    stan = people.stan()
    assert browser(stan).get(LIST).status_code == 403
    stan.user_permissions.add(Permission.objects.get(codename="view_share"))
    client = browser(stan)
    assert client.get(LIST).status_code == 200
    client.post(LIST, {"action": "revoke", "_selected_action": [share.pk]})
    assert not Share.objects.get().revoked


def test_nobody_makes_changes_or_deletes_one_there(share):
    client = browser(people.alice())
    for page in ("add", "change", "delete"):
        address = reverse(f"admin:conversations_share_{page}", args=[] if page == "add" else [share.pk])
        assert client.post(address, {"audience": "anyone", "post": "yes"}).status_code == 403


def test_it_says_what_became_of_each_and_lists_them_by_that(share):
    client = browser(people.alice())
    for state, values in (
        ("open", {"expires": None}),
        ("expired", {"expires": timezone.now() - timedelta(days=1)}),
        ("revoked", {"revoked": timezone.now()}),
    ):
        Share.objects.update(**values)
        for asked in ("open", "expired", "revoked"):
            page = client.get(f"{LIST}?state={asked}").text
            assert ("1 link" in page) == (asked == state)
            assert (f'field-state">{state}<' in page) == (asked == state)
            assert ("Nothing here is like that." in page) == (asked != state)
