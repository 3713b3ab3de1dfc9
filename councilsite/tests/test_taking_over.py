"""Ways to somebody else's account, council or link that were found open once, and are not."""

import time

import pytest
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from allauth.mfa.totp.internal.auth import yield_hotp_counters_from_time as counters
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, reverse

from accounts import roles
from accounts.models import Invitation, User
from accounts.roles import Role
from conversations.tests import cast, links
from council.models import Council
from councilsite.tests.test_guarded import PASSWORD, administrator

pytestmark = pytest.mark.django_db(transaction=True)


def auditor() -> User:
    person = User.objects.create_user("auditor@example.org", is_staff=True)
    person.groups.set([roles.group(Role.AUDITOR)])
    return User.objects.get(pk=person.pk)


def superuser() -> User:
    return User.objects.create_superuser("root@example.org", PASSWORD)


@pytest.mark.parametrize("who", [auditor, administrator, superuser])
def test_no_page_shows_the_hash_of_a_password(client, who):
    bob, root = cast.bob(), User.objects.create_superuser("other@example.org", PASSWORD)
    client.force_login(who())
    for model in admin.site._registry:
        for person in (bob, root):
            try:
                place = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[person.pk])
            except NoReverseMatch:
                continue
            answer = client.get(place)
            assert model is not User or answer.status_code == 200
            page = answer.content.decode()
            assert bob.password.rpartition("$")[2] not in page
            assert root.password.rpartition("$")[2] not in page


def test_nobody_knows_the_password_of_somebody_new(client):
    client.force_login(administrator())
    given = {"email": "new@example.org", "name": "New", "password1": PASSWORD, "password2": PASSWORD}
    client.post(reverse("admin:accounts_user_add"), {**given, "usable_password": "true"})
    assert not User.objects.get(email="new@example.org").has_usable_password()


def test_an_account_from_a_shell_is_not_given_away_by_a_link_that_is_copied(client):
    """Only the mail proves whose the address is."""
    User.objects.create_user("carol@example.org", name="Carol")
    client.force_login(administrator())
    place, given = reverse("admin:accounts_invitation_add"), {"email": "carol@example.org", "days": "7"}
    assert "send the link there" in client.post(place, given).content.decode()
    client.post(place, {**given, "mail": "on"})
    made = Invitation.objects.get()
    assert made.token in mail.outbox[0].body
    assert made.token not in client.get(reverse("admin:accounts_invitation_change", args=[made.pk])).content.decode()


def test_a_group_that_something_rests_on_stays(client):
    """A council that is left without groups would be everybody's."""
    client.force_login(superuser())
    group = Group.objects.create(name="Team")
    council = cast.council()
    council.groups.set([group])
    chosen = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    for name, key, given in (("delete", [group.pk], {"post": "yes"}), ("changelist", [], chosen)):
        client.post(reverse(f"admin:auth_group_{name}", args=key), given)
        assert Group.objects.filter(pk=group.pk).exists()
    assert council.name in client.get(reverse("admin:auth_group_delete", args=[group.pk])).content.decode()
    council.groups.clear()
    client.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"})
    assert not Group.objects.filter(pk=group.pk).exists()
    assert Council.objects.filter(pk=council.pk).exists()


def test_a_group_with_people_stays(client):
    """The trail says of each person which groups they had."""
    client.force_login(superuser())
    group = Group.objects.create(name="Team")
    group.user_set.add(auditor())
    place = reverse("admin:auth_group_delete", args=[group.pk])
    assert "people in it: Team" in client.post(place, {"post": "yes"}).content.decode()
    assert Group.objects.filter(pk=group.pk).exists()
    group.user_set.clear()
    client.post(place, {"post": "yes"})
    assert not Group.objects.filter(pk=group.pk).exists()


def test_roles_stay_and_keep_their_names(client):
    client.force_login(superuser())
    auditors = roles.group(Role.AUDITOR)
    client.post(reverse("admin:auth_group_change", args=[auditors.pk]), {"name": "Others"})
    client.post(reverse("admin:auth_group_delete", args=[auditors.pk]), {"post": "yes"})
    assert Group.objects.filter(name="Auditors").exists()


def test_a_missing_role_makes_nobody_a_member():
    roles.ensure()
    somebody = auditor()
    Group.objects.filter(name="Members").delete()
    roles.ensure()
    assert [group.name for group in somebody.groups.all()] == ["Auditors"]


@pytest.mark.parametrize("audience", ["team", "anyone"])
def test_a_link_ends_with_its_owners_right_to_share(audience):
    alice = cast.alice()
    links.allow_public_links()
    token = links.make(links.answered(alice, cast.council()), audience)
    reader = links.browser(cast.bob())
    assert reader.get(links.place(token)).status_code == 200
    roles.group(Role.MEMBER).permissions.clear()
    assert reader.get(links.place(token)).status_code == 404


def test_a_code_of_an_app_is_good_for_once_in_whichever_process():
    bob = cast.bob()
    bob.vouch_for_address()
    secret = generate_totp_secret()
    TOTP.activate(bob, secret)
    browsers = [Client(), Client()]
    for browser in browsers:
        browser.post(reverse("account_login"), {"login": bob.email, "password": PASSWORD})
    if time.time() % 30 > 25:  # not over the end of the code's time
        time.sleep(6)
    code = format_hotp_value(hotp_value(secret, next(iter(counters()))))
    answers = []
    for browser in browsers:
        cache.clear()  # another process has another
        answers.append(browser.post(reverse("mfa_authenticate"), {"code": code}).status_code)
    assert answers == [302, 200]


PAGES = ("email", "password/change", "2fa", "2fa/totp/activate", "2fa/webauthn/add", "sessions", "reauthenticate")


def test_no_page_of_a_person_is_kept_and_sensitive_ones_ask_for_the_password_first():
    bob = cast.bob()
    bob.vouch_for_address()
    conversation = links.answered(bob, cast.council())
    browser = Client()
    browser.post(reverse("account_login"), {"login": bob.email, "password": PASSWORD})
    session = browser.session
    session["account_authentication_methods"] = [{"method": "password", "at": 0}]  # long ago
    session.save()
    another = {"action_add": "", "email": "another@example.org"}
    sensitive = [browser.get("/accounts/2fa/totp/activate/"), browser.get("/accounts/2fa/webauthn/add/")]
    for answer in (*sensitive, browser.post("/accounts/email/", another)):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/reauthenticate/")
    browser.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    own = ("/", "/settings/", "/settings/links/", "/history/", conversation.get_absolute_url())
    for place in (*own, *(f"/accounts/{name}/" for name in PAGES)):
        answer = browser.get(place)
        assert answer.status_code == 200, place
        assert "no-store" in answer["Cache-Control"], place


def test_a_password_that_is_set_for_somebody_ends_their_sessions(client):
    bob = cast.bob()
    bob.vouch_for_address()
    his = Client()
    his.post(reverse("account_login"), {"login": bob.email, "password": PASSWORD})
    assert his.get("/settings/").status_code == 200
    client.force_login(superuser())
    given = {"password1": "three brown herons", "password2": "three brown herons", "usable_password": "true"}
    client.post(reverse("admin:auth_user_password_change", args=[bob.pk]), given)
    assert his.get("/settings/").status_code == 302
