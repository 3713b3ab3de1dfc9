"""How often, how much at the same time, for whom; and what whoever reaches a limit is told."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from allauth.account import app_settings as allauth_settings
from allauth.core.internal.ratelimit import parse_rates
from allauth.mfa import app_settings as factor_settings
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import connection
from django.urls import reverse
from fido2.utils import websafe_encode

from accounts import adapter, limits
from accounts.limits import Per, Reached, What
from accounts.models import Limit, User
from accounts.tests.cast import PASSWORD, passkey
from conversations import asking
from conversations.models import Turn
from conversations.tests import cast, links
from council.models import Deliberation
from governance.models import Event, Tally

pytestmark = pytest.mark.django_db(transaction=True)


def limit(what, amount, seconds=60, **more) -> Limit:
    made = Limit.objects.create(what=what, amount=amount, seconds=seconds, **more)
    limits.forget()
    return made


def counts(what, *somebody, times=10) -> int:
    """How often it may be done."""
    for done in range(times):
        try:
            limits.take(what, *somebody)
        except Reached:
            return done
    return times


class TestWhoseItIs:
    def test_each_person_by_themselves(self):
        limit(What.ASKS, 3)
        assert [counts(What.ASKS, cast.alice()), counts(What.ASKS, cast.bob())] == [3, 3]

    def test_a_group_together(self):
        group = Group.objects.create(name="Team")
        limit(What.ASKS, 3, per=Per.GROUP, group=group)
        alice, bob, carol = cast.alice(), cast.bob(), User.objects.create_user("carol@example.org")
        for each in (alice, bob):
            each.groups.add(group)
        assert [counts(What.ASKS, each, times=2) for each in (alice, bob)] == [2, 1]
        assert counts(What.ASKS, carol) == 10

    def test_each_address(self):
        limit(What.LINKS, 2, per=Per.ADDRESS)
        found = [counts(What.LINKS, None, address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]
        assert found == [2, 2, 0]

    def test_all_that_concern_somebody_hold(self):
        limit(What.ASKS, 5)
        limit(What.ASKS, 2, seconds=3600)
        assert counts(What.ASKS, cast.alice()) == 2

    def test_without_a_decision_the_sites_own_hold(self, monkeypatch):
        monkeypatch.setitem(limits.DEFAULTS, What.ASKS, Limit(what=What.ASKS, per=Per.PERSON, amount=4, seconds=60))
        assert counts(What.ASKS, cast.alice()) == 4
        assert set(limits.DEFAULTS) == set(What)

    def test_what_goes_on_at_the_same_time(self):
        limit(What.GOING, 2, None)
        alice, council = cast.alice(), cast.council()
        for _ in range(2):
            asking.ask(alice, "What now?", council)
        asking.ask(cast.bob(), "And for somebody else?", council)
        with pytest.raises(asking.Refused, match="Wait until something has ended"):
            asking.ask(alice, "And now?", council)
        Deliberation.objects.update(status="complete")
        asking.ask(alice, "And now?", council)

    def test_nobody_finds_more_room_by_asking_at_the_same_moment(self):
        limit(What.GOING, 2, None)
        alice, council = cast.alice(), cast.council()

        def asks(number):
            try:
                return bool(asking.ask(alice, f"Question {number}?", council))
            except asking.Refused:
                return False
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as several:
            asked = list(several.map(asks, range(8)))
        assert sum(asked) == Deliberation.objects.count() == 2

    def test_of_a_group_together_what_all_have_at_work_counts(self, client):
        group = Group.objects.create(name="Team")
        limit(What.GOING, 1, None, per=Per.GROUP, group=group)
        alice, bob, council = cast.alice(), cast.bob(), cast.council()
        for each in (alice, bob):
            each.groups.add(group)
        client.force_login(alice)
        assert client.post("/", {"question": "First?", "council": council.slug}).status_code == 302
        client.force_login(bob)
        assert client.post("/", {"question": "Mine?", "council": council.slug}).status_code == 429

    def test_a_limit_for_a_group_leaves_everybody_else_theirs(self, monkeypatch):
        monkeypatch.setitem(limits.DEFAULTS, What.ASKS, Limit(what=What.ASKS, per=Per.PERSON, amount=4, seconds=60))
        group = Group.objects.create(name="Trainees")
        limit(What.ASKS, 1, group=group)
        alice, bob = cast.alice(), cast.bob()
        alice.groups.add(group)
        assert [counts(What.ASKS, each) for each in (alice, bob)] == [1, 4]

    def test_what_is_open_is_counted_in_and_out(self):
        limit(What.SOCKETS, 1, None)
        opened = limits.Open(What.SOCKETS)
        bob, alice = (limits.at_once(What.SOCKETS, each) for each in (cast.bob(), cast.alice()))
        opened.enter(bob)
        with pytest.raises(Reached):
            opened.enter(bob)
        opened.enter(alice)
        opened.leave(bob)
        opened.enter(bob)

    def test_what_is_open_is_counted_for_all_whose_it_is(self):
        limit(What.SOCKETS, 9, None)
        limit(What.SOCKETS, 1, None, per=Per.ADDRESS)
        opened = limits.Open(What.SOCKETS)
        bob = cast.bob()
        here, there = (limits.at_once(What.SOCKETS, bob, f"192.0.2.{each}") for each in (1, 2))
        alice = limits.at_once(What.SOCKETS, cast.alice(), "192.0.2.1")
        opened.enter(here)
        opened.enter(there)
        with pytest.raises(Reached):
            opened.enter(alice)
        opened.leave(here)
        opened.enter(alice)
        opened.leave(alice)
        opened.leave(there)
        assert not opened._count


class TestRedis:
    def test_processes_count_together(self, settings, valkey):
        settings.REDIS_URL = valkey
        limit(What.ASKS, 3)
        alice = cast.alice()
        assert counts(What.ASKS, alice, times=2) == 2
        limits.forget_counts()  # as another process would
        assert counts(What.ASKS, alice) == 1

    def test_while_it_is_away_each_counts_for_itself(self, settings, caplog):
        settings.REDIS_URL = "redis://127.0.0.1:9/0"
        limit(What.ASKS, 2)
        assert counts(What.ASKS, cast.alice()) == 2
        assert "each process counts for itself" in caplog.text


class TestWhatIsSaid:
    def test_asking(self, client):
        limit(What.ASKS, 1, seconds=600)
        client.force_login(cast.bob())
        council = cast.council()
        assert client.post("/", {"question": "First?", "council": council.slug}).status_code == 302
        refused = client.post("/", {"question": "Second?", "council": council.slug})
        assert refused.status_code == 429
        assert 0 < int(refused["Retry-After"]) <= 600
        said = refused.content.decode()
        assert "You have asked as often as you may for now. Ask again in" in said
        assert "Second?" in said
        assert Turn.objects.count() == 1
        assert Tally.objects.get(kind="refused").object_id == "asks"
        assert not Event.objects.filter(kind="refused").exists()

    def test_a_follow_up_and_another_try(self, client):
        bob = cast.bob()
        client.force_login(bob)
        conversation = links.answered(bob, cast.council())
        limit(What.ASKS, 1, seconds=600)
        counts(What.ASKS, bob)
        place = conversation.get_absolute_url()
        assert client.post(place, {"question": "And?", "council": "test"}).status_code == 429
        Deliberation.objects.get().answers.update(outcome="failed")
        assert client.post(f"{place}retry/", {"slot": "answering:0"}).status_code == 429
        htmx = client.post(f"{place}retry/", {"slot": "answering:0"}, headers={"HX-Request": "true"})
        assert (htmx.status_code, "Ask again in" in htmx["HX-Trigger"]) == (429, True)

    def test_more_at_the_same_time_than_one_may(self, client):
        limit(What.GOING, 1, None)
        client.force_login(cast.bob())
        council = cast.council()
        client.post("/", {"question": "First?", "council": council.slug})
        refused = client.post("/", {"question": "Second?", "council": council.slug})
        assert (refused.status_code, refused.has_header("Retry-After")) == (429, False)
        assert "Wait until something has ended" in refused.text
        Deliberation.objects.update(status="complete")
        assert client.post("/", {"question": "Second?", "council": council.slug}).status_code == 302

    def test_another_try_of_a_part_is_at_work_like_a_question(self, client):
        bob, council = cast.bob(), cast.council()
        place = links.answered(bob, council).get_absolute_url()
        Deliberation.objects.get().answers.update(outcome="failed")
        asking.ask(bob, "Something else?", council)
        limit(What.GOING, 1, None)
        client.force_login(bob)
        refused = client.post(f"{place}retry/", {"slot": "answering:0"})
        assert (refused.status_code, refused.has_header("Retry-After")) == (429, False)
        assert "Wait until something has ended" in refused.text
        Deliberation.objects.filter(status="queued").update(status="complete")
        assert client.post(f"{place}retry/", {"slot": "answering:0"}).status_code == 302

    def test_the_same_form_again_is_no_second_question(self, client):
        limit(What.ASKS, 1, seconds=600)
        client.force_login(cast.bob())
        form = {"question": "First?", "council": cast.council().slug, "request_id": "0" * 32}
        first, again = (client.post("/", form) for _ in range(2))
        assert first["Location"] == again["Location"]

    def test_signing_in(self, client):
        limit(What.SIGN_INS, 2, seconds=300, per=Per.ADDRESS)
        bob = cast.bob()
        place, wrong = reverse("account_login"), {"login": bob.email, "password": "wrong"}
        assert [client.post(place, wrong).status_code for _ in range(3)] == [200, 200, 429]
        assert 0 < int(client.post(place, wrong)["Retry-After"]) <= 300
        assert "Try again in" in client.post(place, {"login": bob.email, "password": PASSWORD}).content.decode()
        assert client.get(place).status_code == 200
        right = {"login": bob.email, "password": "correct horse battery"}
        for _ in range(4):  # what goes well does not count
            assert links.browser().post(place, right, REMOTE_ADDR="192.0.2.8").status_code == 302
        elsewhere = client.post(place, wrong, REMOTE_ADDR="192.0.2.9")
        assert elsewhere.status_code == 200

    def test_opening_links(self, client):
        limit(What.LINKS, 2, per=Per.ADDRESS)
        found = [client.get("/s/nothing-there/") for _ in range(3)]
        assert [each.status_code for each in found] == [302, 302, 429]
        assert 0 < int(found[-1]["Retry-After"]) <= 60

    def test_opening_links_by_who_has_signed_in_where_that_is_decided(self):
        limit(What.LINKS, 2).full_clean()
        bob, alice, stranger = (links.browser(each) for each in (cast.bob(), cast.alice(), None))
        assert [bob.get("/s/nothing-there/").status_code for _ in range(3)] == [404, 404, 429]
        assert alice.get("/s/nothing-there/").status_code == 404
        assert [stranger.get("/s/nothing-there/").status_code for _ in range(3)] == [302, 302, 429]

    def test_opening_links_by_a_group_together(self):
        group, bob, alice = Group.objects.create(name="Team"), cast.bob(), cast.alice()
        group.user_set.set([bob, alice])
        limit(What.LINKS, 1, per=Per.GROUP, group=group).full_clean()
        assert links.browser(bob).get("/s/nothing-there/").status_code == 404
        assert links.browser(alice).get("/s/nothing-there/").status_code == 429
        assert links.browser().get("/s/nothing-there/").status_code == 302


class TestOfAllauth:
    """Its own limits besides the site's: told in the same way."""

    def test_an_account_that_is_tried_in_vain_from_one_address(self, client):
        bob = cast.bob()
        wrong = {"login": bob.email, "password": "wrong"}
        *before, refused = (client.post(reverse("account_login"), wrong) for _ in range(6))
        assert [each.status_code for each in before] == [200] * 5
        self.says_when_to_come_back(refused)
        assert f'value="{bob.email}"' in refused.text
        elsewhere = links.browser().post(reverse("account_login"), wrong, REMOTE_ADDR="192.0.2.9")
        assert (elsewhere.status_code, elsewhere.has_header("Retry-After")) == (200, False)

    def test_a_second_factor(self, client):
        bob = cast.bob()
        bob.vouch_for_address()
        TOTP.activate(bob, generate_totp_secret())
        right = {"login": bob.email, "password": "correct horse battery"}
        assert client.post(reverse("account_login"), right).url == reverse("mfa_authenticate")
        # From wherever it comes: whoever gets here knows the password.
        *before, refused = (
            client.post(reverse("mfa_authenticate"), {"code": "wrong"}, REMOTE_ADDR=f"192.0.2.{each}")
            for each in range(6)
        )
        assert [each.status_code for each in before] == [200] * 5
        self.says_when_to_come_back(refused)
        passkey(bob)
        said = websafe_encode(b'{"type": "webauthn.get", "challenge": "", "origin": "http://testserver"}')
        answer = {"clientDataJSON": said, "authenticatorData": websafe_encode(bytes(37)), "signature": "AA"}
        key = {"id": "YQ", "rawId": "YQ", "type": "public-key", "response": answer}
        self.says_when_to_come_back(client.post(reverse("mfa_authenticate"), {"credential": json.dumps(key)}))

    def test_a_password_that_is_asked_for_once_more(self, client):
        bob = cast.bob()
        bob.vouch_for_address()
        client.post(reverse("account_login"), {"login": bob.email, "password": "correct horse battery"})
        *before, refused = (client.post(reverse("account_reauthenticate"), {"password": "wrong"}) for _ in range(6))
        assert [each.status_code for each in before] == [200] * 5
        self.says_when_to_come_back(refused)

    def test_what_is_said_is_as_long_as_they_are(self):
        rates = {**allauth_settings.RATE_LIMITS, **factor_settings.RATE_LIMITS}
        longest = {name: max(each.duration for each in parse_rates(rate)) for name, rate in rates.items()}
        del longest["confirm_email"]  # refuses nobody: the mail before is as good as another
        assert longest.pop("login_failed") == adapter.AGAIN
        assert set(longest.values()) == {limits.MINUTE}

    def says_when_to_come_back(self, refused):
        assert (refused.status_code, refused["Retry-After"]) == (429, "300")
        assert "That was too often. Try again in 5 minutes." in refused.text


class TestTheAdmin:
    def test_it_holds_at_once_and_is_told(self, client):
        client.force_login(User.objects.create_superuser("root@example.org", PASSWORD))
        page = reverse("admin:accounts_limit_changelist")
        assert "questions asked: 120 in an hour" in client.get(page).content.decode()
        given = {"what": "asks", "per": "person", "amount": "1", "seconds": "60"}
        assert client.post(reverse("admin:accounts_limit_add"), given).status_code == 302
        assert counts(What.ASKS, cast.bob()) == 1
        assert "questions asked: 120" not in client.get(page).content.decode()
        assert Event.objects.get(kind="added", object_type="accounts.limit").details["changes"]["amount"] == [None, 1]

    @pytest.mark.parametrize(
        ("given", "wrong"),
        [
            ({"what": "going", "amount": 1, "seconds": 60}, "seconds"),
            ({"what": "asks", "amount": 1}, "seconds"),
            ({"what": "asks", "amount": 1, "seconds": 60, "per": "group"}, "group"),
            ({"what": "openings", "amount": 1, "seconds": 60}, "per"),
        ],
    )
    def test_what_does_not_go_together_is_said(self, given, wrong):
        with pytest.raises(ValidationError) as refused:
            Limit(**given).full_clean()
        assert set(refused.value.message_dict) == {wrong}
