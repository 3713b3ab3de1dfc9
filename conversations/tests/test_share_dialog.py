"""Who makes a link to a conversation, changes it and ends it: the dialog, and the list of a person's links."""

import re

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from conversations import asking
from conversations.models import Share
from conversations.tests.links import allow_public_links, browser, make, place, post, said
from governance.tokens import digest

pytestmark = pytest.mark.django_db


def test_a_conversation_is_private_until_its_owner_says_otherwise(alice, conversation):
    page = browser(alice).get(reverse("share", args=[conversation.pk])).text
    assert re.search(r'value="private"[^>]*checked', page)
    assert "/s/" not in page
    assert not Share.objects.exists()


def test_its_owner_makes_a_link_and_can_copy_it_at_any_time(alice, conversation):
    client = browser(alice)
    assert post(client, conversation, audience="team").status_code == 302
    share = Share.objects.get()
    for _ in range(2):
        assert (
            f'value="http://testserver{place(share.token)}"'
            in client.get(reverse("share", args=[conversation.pk])).text
        )


def test_nobody_else_does(bob, conversation):
    bob.is_staff = bob.is_superuser = True
    bob.save()
    address = reverse("share", args=[conversation.pk])
    assert browser(bob).get(address).status_code == 404
    assert post(browser(bob), conversation, audience="team").status_code == 404
    assert browser().get(address).url.startswith(reverse("account_login"))
    assert post(browser(), conversation, audience="team").url.startswith(reverse("account_login"))
    assert not Share.objects.exists()


def test_a_token_has_256_bits_and_is_not_stored_in_the_clear(conversation):
    token = make(conversation)
    assert len(token) == 43
    row = Share.objects.values().get()
    assert token not in str(row)
    assert row["digest"] == digest(token)


def test_a_link_for_anyone_is_refused_unless_the_administrator_allows_it(alice, conversation):
    client = browser(alice)
    page = client.get(reverse("share", args=[conversation.pk])).text
    assert re.search(r'value="anyone"[^>]*disabled', page)
    assert "The administrator does not allow it." in page
    refused = post(client, conversation, audience="anyone", expiry="7")
    assert refused.status_code == 422
    assert "does not allow links for anyone" in refused.text
    assert re.search(r'value="7" selected', refused.text)
    assert not Share.objects.exists()
    allow_public_links()
    assert post(client, conversation, audience="anyone").status_code == 302
    assert Share.objects.get().audience == "anyone"


def test_a_live_link_is_for_the_team_alone(alice, conversation):
    allow_public_links()
    refused = post(browser(alice), conversation, audience="anyone", live="live")
    assert refused.status_code == 422
    assert "A live link is for the team alone" in refused.text
    assert re.search(r'value="anyone"[^>]*checked', refused.text)
    assert not Share.objects.exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        make(conversation, "anyone", live=True)


def test_a_snapshot_waits_for_an_answer(alice, council):
    conversation = asking.ask(alice, "Too soon?", council).conversation
    refused = post(browser(alice), conversation, audience="team")
    assert refused.status_code == 422
    assert "A snapshot needs an answer" in refused.text
    assert post(browser(alice), conversation, audience="team", live="live").status_code == 302


@pytest.mark.parametrize("given", [{"audience": "everybody"}, {}, {"audience": "team", "expiry": "8"}])
def test_what_makes_no_sense_is_refused(alice, conversation, given):
    assert post(browser(alice), conversation, **given).status_code == 422
    assert not Share.objects.exists()


def test_a_conversation_has_one_link_and_changes_keep_its_address(alice, conversation):
    client = browser(alice)
    post(client, conversation, audience="team")
    token = Share.objects.get().token
    post(client, conversation, audience="team", live="live", expiry="1")
    share = Share.objects.get()
    assert (share.token, share.live) == (token, True)
    expires = share.expires
    post(client, conversation, audience="team", expiry="keep")
    share.refresh_from_db()
    assert (share.token, share.live, share.expires) == (token, False, expires)


@pytest.mark.parametrize("given", [{"action": "revoke"}, {"audience": "private"}])
def test_revoked_it_is_private_again_and_another_link_has_another_address(alice, bob, conversation, given):
    client, old = browser(alice), make(conversation)
    assert post(client, conversation, **given).status_code == 302
    assert browser(bob).get(place(old)).status_code == 404
    assert make(conversation) != old
    assert browser(bob).get(place(old)).status_code == 404


def test_with_htmx_the_answer_is_the_dialog_as_it_is_now(alice, conversation):
    client = Client(headers={"HX-Request": "true"})
    client.force_login(alice)
    made = post(client, conversation, audience="team")
    assert made.status_code == 200
    assert made.text.startswith('<div id="share-body"')
    assert "The link is ready." in made.text
    assert Share.objects.get().token in made.text


def test_a_link_whose_key_is_gone_still_opens(alice, bob, conversation, settings):
    token = make(conversation)
    settings.FIELD_KEYS = ["QW5vdGhlciBrZXkgb2YgdGhlIHNhbWUgbGVuZ3RoISE="]
    assert "cannot be shown any more" in browser(alice).get(reverse("share", args=[conversation.pk])).text
    assert browser(bob).get(place(token)).status_code == 200


class TestLists:
    def test_a_person_sees_the_own_links_and_revokes_one_or_all(self, alice, bob, conversation, council):
        others = asking.ask(bob, "Bob's question?", council).conversation
        make(others, live=True)
        more = [asking.ask(alice, f"Question {number}?", council).conversation for number in range(3)]
        tokens = [make(each, live=True) for each in (*more, conversation)]
        client = browser(alice)
        page = client.get(reverse("links")).text
        assert "Question 2?" in page
        assert "Revoke all 4" in page
        assert all(place(token) in page for token in tokens)
        assert "Bob" not in page
        client.post(reverse("revoke-links"), {"share": more[0].shares.get().pk})
        assert Share.objects.filter(revoked=None).count() == 4
        client.post(reverse("revoke-links"), {"share": others.shares.get().pk})
        client.post(reverse("revoke-links"), {"share": "all"})
        assert Share.objects.filter(revoked=None).count() == 4
        response = client.post(reverse("revoke-links"))
        assert said(response)[-1] == "3 links were revoked."
        assert [each.conversation for each in Share.objects.filter(revoked=None)] == [others]
        assert {browser(bob).get(place(token)).status_code for token in tokens} == {404}
        assert "all your conversations are private" in client.get(reverse("links")).text

    def test_it_is_for_people_who_have_signed_in(self):
        for response in (browser().get(reverse("links")), browser().post(reverse("revoke-links"))):
            assert response.url.startswith(reverse("account_login"))

    def test_a_deleted_conversation_has_no_link_and_comes_back_without(self, alice, bob, conversation):
        token, client = make(conversation), browser(alice)
        response = client.post(reverse("delete", args=[conversation.pk]))
        assert said(response) == ["“First question?” was deleted, and its link is revoked."]
        client.post(reverse("restore", args=[conversation.pk]))
        assert browser(bob).get(place(token)).status_code == 404
        assert not Share.objects.visible_to(alice).exists()
