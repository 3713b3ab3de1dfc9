"""A link to a conversation: who may make it, for whom it opens, what it shows, and how it ends."""

import re
from datetime import timedelta
from itertools import product
from uuid import uuid4

import pytest
from django.contrib.messages import get_messages
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import SiteSettings
from conversations import asking, deleting, sharing
from conversations.models import Conversation, Share, Turn
from conversations.tests import cast
from council.models import Answer, Call, Deliberation, Synthesis
from governance.tokens import digest

pytestmark = pytest.mark.django_db


@pytest.fixture
def council():
    return cast.council()


@pytest.fixture
def alice():
    return cast.alice()


@pytest.fixture
def bob():
    return cast.bob()


@pytest.fixture
def conversation(alice, council):
    """Alice's; its one question is answered."""
    made = asking.ask(alice, "First question?", council).conversation
    answer(made, "The first answer.")
    return made


def answer(conversation, text: str) -> None:
    """The council ends what it has begun, with this answer."""
    deliberation = Deliberation.objects.get(scope=conversation.pk, status="queued")
    Answer.objects.create(deliberation=deliberation, seat=0, state="ended", outcome="complete", text="Somebody's own.")
    Synthesis.objects.create(deliberation=deliberation, state="ended", outcome="complete", text=text)
    Call.objects.create(deliberation=deliberation, purpose="answer", sent=timezone.now(), state="ended", cost=70_000)
    Deliberation.objects.filter(pk=deliberation.pk).update(
        status="complete", stage="synthesising", finished=timezone.now(), revision=9
    )


def ask_more(conversation, council, question: str = "Second question?", text: str = "The second answer.") -> None:
    asking.ask(conversation.owner, question, council, conversation=conversation)
    if text:
        answer(conversation, text)


def browser(person=None) -> Client:
    client = Client()
    if person:
        client.force_login(person)
    return client


def make(conversation, audience="team", expires=None, *, live=False) -> str:
    """A link; its token."""
    return sharing.save(conversation, audience, expires, live=live).token


def place(token: str) -> str:
    return reverse("shared", args=[token])


def said(response) -> list[str]:
    return [str(each) for each in get_messages(response.wsgi_request)]


def allow_public_links(*, allowed: bool = True) -> None:
    SiteSettings.objects.update_or_create(pk=1, defaults={"public_links": allowed})


def post(client, conversation, **given):
    return client.post(reverse("share", args=[conversation.pk]), {"live": "", "expiry": "never", **given})


class TestDialog:
    def test_a_conversation_is_private_until_its_owner_says_otherwise(self, alice, conversation):
        page = browser(alice).get(reverse("share", args=[conversation.pk])).text
        assert re.search(r'value="private"[^>]*checked', page)
        assert "/s/" not in page
        assert not Share.objects.exists()

    def test_its_owner_makes_a_link_and_can_copy_it_at_any_time(self, alice, conversation):
        client = browser(alice)
        assert post(client, conversation, audience="team").status_code == 302
        share = Share.objects.get()
        for _ in range(2):
            assert (
                f'value="http://testserver{place(share.token)}"'
                in client.get(reverse("share", args=[conversation.pk])).text
            )

    def test_nobody_else_does(self, bob, conversation):
        bob.is_staff = bob.is_superuser = True
        bob.save()
        address = reverse("share", args=[conversation.pk])
        assert browser(bob).get(address).status_code == 404
        assert post(browser(bob), conversation, audience="team").status_code == 404
        assert browser().get(address).url.startswith(reverse("account_login"))
        assert post(browser(), conversation, audience="team").url.startswith(reverse("account_login"))
        assert not Share.objects.exists()

    def test_a_token_has_256_bits_and_is_not_stored_in_the_clear(self, conversation):
        token = make(conversation)
        assert len(token) == 43
        row = Share.objects.values().get()
        assert token not in str(row)
        assert row["digest"] == digest(token)

    def test_a_link_for_anyone_is_refused_unless_the_administrator_allows_it(self, alice, conversation):
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

    def test_a_live_link_is_for_the_team_alone(self, alice, conversation):
        allow_public_links()
        refused = post(browser(alice), conversation, audience="anyone", live="live")
        assert refused.status_code == 422
        assert "A live link is for the team alone" in refused.text
        assert re.search(r'value="anyone"[^>]*checked', refused.text)
        assert not Share.objects.exists()
        with pytest.raises(IntegrityError), transaction.atomic():
            make(conversation, "anyone", live=True)

    def test_a_snapshot_waits_for_an_answer(self, alice, council):
        conversation = asking.ask(alice, "Too soon?", council).conversation
        refused = post(browser(alice), conversation, audience="team")
        assert refused.status_code == 422
        assert "A snapshot needs an answer" in refused.text
        assert post(browser(alice), conversation, audience="team", live="live").status_code == 302

    @pytest.mark.parametrize("given", [{"audience": "everybody"}, {}, {"audience": "team", "expiry": "8"}])
    def test_what_makes_no_sense_is_refused(self, alice, conversation, given):
        assert post(browser(alice), conversation, **given).status_code == 422
        assert not Share.objects.exists()

    def test_a_conversation_has_one_link_and_changes_keep_its_address(self, alice, conversation):
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
    def test_revoked_it_is_private_again_and_another_link_has_another_address(self, alice, bob, conversation, given):
        client, old = browser(alice), make(conversation)
        assert post(client, conversation, **given).status_code == 302
        assert browser(bob).get(place(old)).status_code == 404
        assert make(conversation) != old
        assert browser(bob).get(place(old)).status_code == 404

    def test_with_htmx_the_answer_is_the_dialog_as_it_is_now(self, alice, conversation):
        client = Client(headers={"HX-Request": "true"})
        client.force_login(alice)
        made = post(client, conversation, audience="team")
        assert made.status_code == 200
        assert made.text.startswith('<div id="share-body"')
        assert "The link is ready." in made.text
        assert Share.objects.get().token in made.text

    def test_a_link_whose_key_is_gone_still_opens(self, alice, bob, conversation, settings):
        token = make(conversation)
        settings.FIELD_KEYS = ["QW5vdGhlciBrZXkgb2YgdGhlIHNhbWUgbGVuZ3RoISE="]
        assert "cannot be shown any more" in browser(alice).get(reverse("share", args=[conversation.pk])).text
        assert browser(bob).get(place(token)).status_code == 200


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


class TestOpening:
    def test_a_team_link_opens_for_whoever_has_signed_in(self, bob, conversation):
        token = make(conversation)
        page = browser(bob).get(place(token))
        assert page.status_code == 200
        assert "First question?" in page.text
        assert "The first answer." in page.text
        assert "Somebody&#39;s own." in page.text or "Somebody's own." in page.text
        away = browser().get(place(token))
        assert away.url == f"{reverse('account_login')}?next={place(token)}"

    def test_a_link_for_anyone_opens_for_anyone(self, bob, conversation):
        allow_public_links()
        token = make(conversation, "anyone")
        for person in (None, bob):
            assert "The first answer." in browser(person).get(place(token)).text

    @pytest.mark.parametrize(("how", "audience"), WAYS)
    @pytest.mark.parametrize("path", ["shared", "shared-changes", "copy"])
    def test_one_that_is_over_looks_as_if_it_never_was(self, alice, bob, conversation, how, audience, path):
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

    def test_what_is_over_costs_as_many_queries_as_what_never_was(self, bob, conversation, django_assert_num_queries):
        token = make(conversation)
        client = browser(bob)
        client.get(place("z" * 43))
        for tried in (token, "y" * 43):
            sharing.revoke(Share.objects.all())
            with django_assert_num_queries(3):  # session, person, link
                client.get(place(tried))

    def test_nobody_indexes_it_refers_to_it_or_keeps_it(self, bob, conversation):
        token = make(conversation)
        for client, address in ((browser(bob), place(token)), (browser(bob), place("no")), (browser(), place(token))):
            response = client.get(address)
            assert response["X-Robots-Tag"] == "noindex, nofollow"
            assert response["Referrer-Policy"] == "no-referrer"
            assert "no-store" in response["Cache-Control"]
            assert "private" in response["Cache-Control"]
        assert '<meta name="robots" content="noindex, nofollow">' in browser(bob).get(place(token)).text

    def test_it_says_who_and_when_and_never_the_address_of_who_has_no_name(self, alice, bob, conversation):
        token = make(conversation)
        page = browser(bob).get(place(token)).text
        assert "Shared by <bdi>Alice</bdi>" in page
        assert Share.objects.get().taken.isoformat() in page
        alice.name = ""
        alice.save()
        page = browser(bob).get(place(token)).text
        assert "Shared by a colleague" in page
        assert alice.email not in page

    def test_it_is_to_be_read(self, bob, conversation):
        token = make(conversation)
        page = browser(bob).get(place(token)).text
        assert 'id="composer"' not in page
        assert 'id="stop"' not in page
        assert "<form" not in page
        assert browser(bob).post(place(token)).status_code == 405

    def test_it_counts_who_opens_it_but_not_its_owner(self, alice, bob, conversation):
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


def copied(client, token: str, request_id=None):
    return client.post(reverse("copy", args=[token]), {"request_id": request_id or uuid4()})


class TestCopying:
    def test_who_has_signed_in_goes_on_with_a_copy(self, bob, conversation, council):
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

    def test_a_copy_costs_and_asks_nothing(self, bob, conversation):
        before = Deliberation.objects.count(), Call.objects.aggregate(Sum("cost"))
        copied(browser(bob), make(conversation))
        assert (Deliberation.objects.count(), Call.objects.aggregate(Sum("cost"))) == before

    def test_a_double_click_makes_one_copy(self, bob, conversation):
        token, request_id = make(conversation), uuid4()
        first, second = (copied(browser(bob), token, request_id) for _ in range(2))
        assert first.url == second.url
        assert Conversation.objects.filter(owner=bob).count() == 1
        assert Turn.objects.filter(conversation__owner=bob).count() == 1

    def test_the_same_form_sent_to_another_link_makes_another_copy(self, alice, bob, conversation, council):
        other = asking.ask(alice, "Another question?", council).conversation
        answer(other, "Another answer.")
        request_id = uuid4()
        first, second = (copied(browser(bob), make(each), request_id) for each in (conversation, other))
        assert first.url != second.url
        assert "Another answer." in browser(bob).get(second.url).text

    def test_what_has_no_answer_yet_is_not_copied_and_says_so(self, alice, bob, council):
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
    def test_whoever_is_sent_to_sign_in_first_leaves_no_trace_of_the_address(self, conversation, allowed):
        allow_public_links()
        token = make(conversation, "anyone")
        allow_public_links(allowed=allowed)
        for page in (browser().get(reverse("copy", args=[token]), {"a": "b"}), copied(browser(), token)):
            assert page.status_code == 302
            assert page["X-Robots-Tag"] == "noindex, nofollow"
            assert "no-store" in page["Cache-Control"]
            assert page["Referrer-Policy"] == "no-referrer"
        assert browser().get(reverse("copy", args=[token]), {"a": "b"}).url.endswith("/copy/%3Fa%3Db")

    def test_a_copy_of_a_live_link_leaves_out_what_is_not_answered_yet(self, bob, conversation, council):
        ask_more(conversation, council, text="")
        copied(browser(bob), make(conversation, live=True))
        assert Turn.objects.filter(conversation__owner=bob).count() == 1
        deleting.delete(Conversation.objects.get(owner=bob))
        assert not Deliberation.objects.filter(cancel_requested=True).exists()

    def test_nobody_copies_without_signing_in(self, conversation):
        allow_public_links()
        token = make(conversation, "anyone")
        assert copied(browser(), token).url.startswith(reverse("account_login"))
        assert Conversation.objects.count() == 1

    def test_a_link_that_is_revoked_meanwhile_gives_no_copy(self, bob, conversation):
        make(conversation)
        share = Share.objects.get()
        sharing.revoke(Share.objects.all())
        assert sharing.copy(share, bob, uuid4()) is None
        assert Conversation.objects.count() == 1

    @pytest.mark.parametrize("first", ["original", "copy"])
    def test_each_outlives_the_other_and_nothing_outlives_both(self, alice, bob, conversation, first):
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
