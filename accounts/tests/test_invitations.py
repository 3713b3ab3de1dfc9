"""From an administrator who invites to a colleague who is in, and what everybody else sees of it."""

import re
import threading
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from cryptography.fernet import Fernet
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone

from accounts import invitations
from accounts.forms import JoinForm
from accounts.models import Invitation, User
from accounts.tests import cast

pytestmark = pytest.mark.django_db
INVITATIONS = "/admin/accounts/invitation/"
CHOSEN = {"name": "Ira", "new_password1": cast.PASSWORD, "new_password2": cast.PASSWORD}


@pytest.fixture
def alice(client):
    alice = cast.alice()
    client.force_login(alice)
    return alice


@pytest.fixture
def invitation():
    """Alice's, for Ira."""
    return invited(cast.alice())


def invited(by, email="ira@example.com", **values):
    expires = timezone.now() + timedelta(days=7)
    return Invitation.objects.create(**{"email": email, "created_by": by, "expires": expires, **values})


def invite(client, **more):
    return client.post(f"{INVITATIONS}add/", {"email": "ira@example.com", "days": "7", **more}, follow=True)


def path(invitation):
    return f"/join/{invitation.token}/"


def run(client, invitation, action="withdraw"):
    return client.post(INVITATIONS, {"action": action, "_selected_action": [invitation.pk]}, follow=True)


def without_tokens(page):
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page.text)


# In the admin


def test_it_is_made_for_one_address_and_its_page_has_the_link(client, alice):
    page = invite(client, email="Ira@Example.com")
    made = Invitation.objects.get()
    assert (made.email, made.created_by, made.state) == ("ira@example.com", alice, "open")
    assert re.search(rf'<input[^>]*readonly value="http://localhost:8000/join/{made.token}/"', page.text)


def test_its_token_has_256_bits():
    assert len(Invitation().token) == 43
    assert Invitation().token != Invitation().token


def test_the_database_alone_opens_nothing(client, alice):
    made = invited(alice)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_invitation")
        row = dict(zip([each.name for each in cursor.description], cursor.fetchone(), strict=True))
    assert made.token not in map(str, row.values())
    client.logout()
    assert client.get(f"/join/{row['digest']}/").status_code == 404
    assert client.get(f"/join/{made.token}/").status_code == 200


def test_where_the_key_is_gone_it_works_and_cannot_be_copied(client, alice, settings):
    made = invited(alice)
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    page = client.get(f"{INVITATIONS}{made.pk}/change/")
    assert "ira@example.com" in page.text
    assert "/join/" not in page.text
    assert client.get(INVITATIONS).status_code == 200
    client.logout()
    assert client.get(path(made)).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_invitations_from_before_tokens_were_sealed_open_as_they_did(client):
    invited(cast.alice())
    before = [("accounts", "0003_invitation")]
    token = Invitation.objects.get().token
    try:
        MigrationExecutor(connection).migrate(before)
        with connection.cursor() as cursor:
            cursor.execute("SELECT token FROM accounts_invitation")
            assert cursor.fetchone() == (token,)
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes("accounts"))
    assert Invitation.objects.get().token == token
    assert client.get(f"/join/{token}/").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT token FROM accounts_invitation")
        assert token not in cursor.fetchone()[0]


@pytest.mark.parametrize("days", [1, 7, 30])
def test_it_is_good_for_as_long_as_the_form_says(client, alice, days):
    invite(client, days=str(days))
    good_for = Invitation.objects.get().expires - timezone.now()
    assert timedelta(days=days, minutes=-5) < good_for <= timedelta(days=days)


def test_seven_days_are_what_the_form_proposes(client, alice):
    assert re.search(r'<option value="7" selected', client.get(f"{INVITATIONS}add/").text)


def test_it_names_the_groups_of_the_new_person(client, alice):
    directors = Group.objects.create(name="Directors")
    assert "Directors" in invite(client, groups=[directors.pk]).text
    assert list(Invitation.objects.get().groups.all()) == [directors]


@pytest.mark.django_db(transaction=True)
def test_it_is_mailed_where_that_was_asked_for(client, alice):
    assert "No mail went out" in invite(client).text
    assert not mail.outbox
    assert "has gone out by mail" in invite(client, email="ida@example.com", mail="on").text
    sent = mail.outbox[0]
    assert sent.to == ["ida@example.com"]
    assert Invitation.objects.get(email="ida@example.com").link in sent.body
    assert "Alice invites you" in sent.body
    assert not sent.alternatives


@pytest.mark.django_db(transaction=True)
def test_a_mail_that_cannot_be_sent_is_said_and_the_link_is_there(client, alice, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    page = invite(client, mail="on").text
    assert "could not be sent" in page
    assert Invitation.objects.get().link in page


def test_the_form_says_that_an_address_has_an_account_already(client, alice):
    cast.bob()
    page = invite(client, email="BOB@example.com")
    assert "There is an account with this address already" in page.text
    assert "BOB@example.com" in page.text
    assert not Invitation.objects.exists()


def test_the_list_says_what_became_of_each(client, alice):
    yesterday = timezone.now() - timedelta(days=1)
    invited(alice)
    invited(alice, "late@example.com", expires=yesterday)
    invited(alice, "gone@example.com", withdrawn=yesterday)
    invited(alice, "in@example.com", accepted=yesterday, accepted_by=cast.bob())
    page = client.get(INVITATIONS).text
    assert re.findall(r'field-state">(\w+)<', page) == ["accepted", "withdrawn", "expired", "open"]


def test_a_link_is_shown_only_while_it_is_good(client, alice):
    made = invited(alice)
    assert made.token in client.get(f"{INVITATIONS}{made.pk}/change/").text
    run(client, made)
    assert made.token not in client.get(f"{INVITATIONS}{made.pk}/change/").text


def test_what_it_says_is_never_changed_and_it_is_never_deleted(client, alice):
    made = invited(alice)
    assert client.post(f"{INVITATIONS}{made.pk}/change/", {"email": "eve@example.com"}).status_code == 403
    assert client.post(f"{INVITATIONS}{made.pk}/delete/", {"post": "yes"}).status_code == 403
    made.refresh_from_db()
    assert made.email == "ira@example.com"


def test_withdrawing_leaves_alone_what_is_over(client, alice):
    made = invited(alice, accepted=timezone.now(), accepted_by=cast.bob())
    assert "0 invitations are withdrawn. The others were over already." in run(client, made).text
    assert Invitation.objects.get().state == "accepted"


def test_the_people_s_list_leads_to_it(client, alice):
    assert f'href="{INVITATIONS}add/"' in client.get("/admin/accounts/user/").text


def test_whoever_may_add_people_may_invite_but_hands_out_no_groups(client):
    directors = Group.objects.create(name="Directors")
    client.force_login(cast.stan())
    assert "Directors" not in client.get(f"{INVITATIONS}add/").text
    invite(client, groups=[directors.pk])
    assert not Invitation.objects.get().groups.exists()


def test_whoever_may_not_hand_out_its_groups_does_not_see_the_link(client):
    made = invited(cast.alice())
    client.force_login(cast.stan())
    assert made.token in client.get(f"{INVITATIONS}{made.pk}/change/").text
    made.groups.add(Group.objects.create(name="Directors"))
    assert made.token not in client.get(f"{INVITATIONS}{made.pk}/change/").text
    assert made.token not in client.get(INVITATIONS).text


def test_nobody_else_of_the_staff_invites(client):
    made = invited(cast.alice())
    stan = cast.stan()
    stan.user_permissions.remove(*stan.user_permissions.filter(codename="add_user"))
    client.force_login(stan)
    assert "/invitation/" not in client.get("/admin/").text
    assert "/invitation/" not in client.get("/admin/accounts/user/").text
    for address in (INVITATIONS, f"{INVITATIONS}add/", f"{INVITATIONS}{made.pk}/change/"):
        assert client.get(address).status_code == 403
    assert invite(client).status_code == 403
    assert run(client, made).status_code == 403
    assert Invitation.objects.get().state == "open"


# At its link


def test_the_invited_chooses_name_and_password_and_is_in(client, invitation):
    directors = Group.objects.create(name="Directors")
    invitation.groups.add(directors)
    assert "ira@example.com" in client.get(path(invitation)).text
    page = client.post(path(invitation), CHOSEN, follow=True)
    ira = User.objects.get(email="ira@example.com")
    assert page.context["user"] == ira
    assert (ira.name, ira.is_staff, ira.is_superuser) == ("Ira", False, False)
    assert {each.name for each in ira.groups.all()} == {"Directors", "Members"}
    assert EmailAddress.objects.get(user=ira).verified
    invitation.refresh_from_db()
    assert (invitation.state, invitation.accepted_by) == ("accepted", ira)


def test_the_invited_is_offered_a_second_factor_at_once(client, invitation):
    page = client.post(path(invitation), CHOSEN, follow=True)
    assert page.redirect_chain[-1][0] == "/setup/done/"
    assert "/accounts/2fa/totp/activate/" in page.text
    assert "administrator can see" not in page.text
    assert "QR" in client.get("/accounts/2fa/totp/activate/").text


def test_the_new_password_signs_in(client, invitation):
    client.post(path(invitation), CHOSEN)
    another = Client()
    another.post("/accounts/login/", {"login": "ira@example.com", "password": cast.PASSWORD})
    assert "_auth_user_id" in another.session


@pytest.mark.parametrize(
    "wrong",
    [
        {"new_password1": "1234567890", "new_password2": "1234567890"},
        {"new_password2": "another one"},
        {"new_password1": "ira@example.com", "new_password2": "ira@example.com"},
        {"name": "x" * 101},
    ],
)
def test_it_refuses_what_no_account_can_have_and_keeps_the_name(client, invitation, wrong):
    chosen = CHOSEN | wrong
    page = client.post(path(invitation), chosen)
    assert page.context["form"].errors
    assert f'value="{chosen["name"]}"' in page.text
    assert not User.objects.filter(email="ira@example.com").exists()
    assert client.get(path(invitation)).status_code == 200


def test_the_address_cannot_be_changed_on_the_way(client, invitation):
    client.post(path(invitation), CHOSEN | {"email": "eve@example.com", "is_superuser": "on"})
    assert not User.objects.filter(email="eve@example.com").exists()
    assert not User.objects.get(email="ira@example.com").is_superuser


def test_withdrawn_expired_used_and_never_existed_are_one_and_the_same(client, invitation):
    yesterday = timezone.now() - timedelta(days=1)
    alice, bob = invitation.created_by, cast.bob()
    over = [
        invited(alice, "gone@example.com", withdrawn=yesterday),
        invited(alice, "late@example.com", expires=yesterday),
        invited(alice, "in@example.com", accepted=yesterday, accepted_by=bob),
        invited(alice, bob.email),
        Invitation(),
        Invitation(token="\0"),
        Invitation(token="x"),
    ]
    answers = {(page.status_code, without_tokens(page)) for page in (client.get(path(each)) for each in over)}
    answers |= {(page.status_code, without_tokens(page)) for page in (client.post(path(each), CHOSEN) for each in over)}
    assert len(answers) == 1
    assert next(iter(answers))[0] == 404
    assert User.objects.count() == 2


def test_an_account_that_comes_between_page_and_post_is_not_told(client, invitation):
    client.get(path(invitation))
    form = JoinForm(invitation.email, CHOSEN)
    assert form.is_valid()
    User.objects.create_user("ira@example.com", "not Ira's password").vouch_for_address()
    assert invitations.accept(invitation, form) is None
    assert User.objects.get(email="ira@example.com").check_password("not Ira's password")


def test_an_account_that_nobody_proved_neither_blocks_it_nor_keeps_its_password(client, alice):
    stranger = User.objects.create_user("ira@example.com", "the stranger's own", name="Mallory")
    EmailAddress.objects.create(user=stranger, email=stranger.email, primary=True, verified=False)
    stranger.groups.add(Group.objects.create(name="Directors"))
    theirs = Client()
    theirs.force_login(stranger)
    key = theirs.session.session_key
    UserSession.objects.create(user=stranger, ip="127.0.0.1", user_agent="A browser", session_key=key)
    invite(client, mail="on")
    made = Invitation.objects.get()
    invited_one = Client()
    assert invited_one.get(path(made)).status_code == 200
    invited_one.post(path(made), CHOSEN)
    ira = User.objects.get(email="ira@example.com")
    assert (ira.name, ira.groups.get().name, ira.check_password(cast.PASSWORD)) == ("Ira", "Members", True)
    assert not UserSession.objects.filter(session_key=key).exists()
    assert not Session.objects.filter(session_key=key).exists()
    assert theirs.get("/settings/").status_code == 302
    assert Invitation.objects.get().accepted_by == ira


@pytest.mark.parametrize("rights", [{"is_staff": True}, {"is_superuser": True}, {"is_active": False}])
def test_an_administrator_s_doing_does_not_give_way(client, alice, rights):
    User.objects.create_user("ira@example.com", "a password of its own", **rights)
    assert "There is an account with this address already" in invite(client).text
    made = invited(alice)
    assert Client().post(path(made), CHOSEN).status_code == 404
    assert User.objects.get(email="ira@example.com").check_password("a password of its own")


def test_whoever_is_signed_in_is_told_so_and_nothing_is_used_up(client, invitation):
    bob = cast.bob()
    client.force_login(bob)
    for page in (client.get(path(invitation)), client.post(path(invitation), CHOSEN)):
        assert "signed in as <strong>bob@example.com</strong>" in page.text
    assert not User.objects.filter(email="ira@example.com").exists()
    page = client.post("/accounts/logout/", {"next": path(invitation)}, follow=True)
    assert page.redirect_chain[-1][0] == path(invitation)
    assert "Create the account" in page.text


def test_the_page_is_not_kept_by_caches(client, invitation):
    assert "no-store" in client.get(path(invitation)).headers["Cache-Control"]


def test_an_invitation_outlives_whoever_made_it(client, invitation):
    User.objects.filter(pk=invitation.created_by_id).update(is_active=False)
    assert client.get(path(invitation)).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_make_one_account():
    invitation = invited(cast.alice())
    start = threading.Barrier(2)
    made = []

    def click(name):
        form = JoinForm(invitation.email, CHOSEN | {"name": name})
        assert form.is_valid()
        start.wait()
        made.append(invitations.accept(invitation, form))
        connection.close()

    both = [threading.Thread(target=click, args=[name]) for name in ("Ira", "Ida")]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sum(each is not None for each in made) == 1
    assert User.objects.filter(email="ira@example.com").count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_is_accepted_at_this_moment_is_not_withdrawn_too(client, monkeypatch):
    alice = cast.alice()
    invitation = invited(alice)
    client.force_login(alice)
    form = JoinForm(invitation.email, CHOSEN)
    assert form.is_valid()
    vouch = User.vouch_for_address

    def withdraw():
        run(client, invitation)
        connection.close()

    withdrawing = threading.Thread(target=withdraw)

    def meanwhile(person):
        withdrawing.start()
        withdrawing.join(1)  # it waits for the one who accepts
        vouch(person)

    monkeypatch.setattr(User, "vouch_for_address", meanwhile)
    assert invitations.accept(invitation, form)
    withdrawing.join()
    invitation.refresh_from_db()
    assert invitation.accepted
    assert not invitation.withdrawn


def test_its_page_withdraws_an_open_one_and_makes_an_expired_one_anew(client, alice):
    directors = Group.objects.create(name="Directors")
    made = invited(alice)
    page = f"{INVITATIONS}{made.pk}/change/"
    assert "Withdraw" in client.get(page).text
    assert "Invite again" not in client.get(page).text
    client.post(INVITATIONS, {"action": "withdraw", "_selected_action": made.pk})
    made.refresh_from_db()
    assert made.state == "withdrawn"
    assert "Withdraw<" not in client.get(page).text

    old = invited(alice, "old@example.com", expires=timezone.now() - timedelta(days=1))
    old.groups.add(directors)
    again = re.search(r'href="(\S+add/\S+)">Invite again', client.get(f"{INVITATIONS}{old.pk}/change/").text).group(1)
    form = client.get(again.replace("&amp;", "&")).context["adminform"].form
    assert (form["email"].value(), form["groups"].value()) == ("old@example.com", [str(directors.pk)])
