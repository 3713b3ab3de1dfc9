import threading
import time
from types import SimpleNamespace

import pytest
from allauth.account.models import EmailAddress
from django.db import connection
from django.test import Client

from accounts import setup
from accounts.forms import AdministratorForm
from accounts.models import User
from accounts.tests import cast

pytestmark = pytest.mark.django_db
FORM = {"name": "Ada", "email": "Ada@example.com", "password1": cast.PASSWORD, "password2": cast.PASSWORD}


def test_it_makes_an_administrator_who_is_signed_in_and_offered_a_second_factor(client):
    response = client.post(setup.link(), FORM, follow=True)
    ada = User.objects.get()
    assert (ada.email, ada.name) == ("ada@example.com", "Ada")
    assert ada.is_superuser
    assert ada.is_staff
    assert response.context["user"] == ada
    assert "/accounts/2fa/totp/activate/" in response.text


def test_the_second_factor_can_be_set_up_at_once(client):
    client.post(setup.link(), FORM)
    assert "QR" in client.get("/accounts/2fa/totp/activate/").text


def test_the_address_needs_no_mail_to_be_believed(client):
    client.post(setup.link(), FORM)
    address = EmailAddress.objects.get()
    assert address.email == "ada@example.com"
    assert address.verified
    assert address.primary


def test_there_is_no_link_once_there_is_an_administrator():
    cast.alice()
    assert setup.link() is None


def test_the_page_to_sign_in_says_what_to_do_on_a_new_site(client):
    assert "no administrator yet" in client.get("/accounts/login/").text
    client.post(setup.link(), FORM)
    client.logout()
    assert "no administrator yet" not in client.get("/accounts/login/").text


def test_members_and_the_shell_are_no_administrators():
    cast.bob()
    User.objects.shell()
    assert setup.link() is not None


def test_it_works_once(client):
    link = setup.link()
    client.post(link, FORM)
    response = Client().post(link, {**FORM, "email": "eve@example.com"})
    assert response.status_code == 404
    assert "is set up" in response.text
    assert User.objects.count() == 1


def test_a_used_link_stays_dead_when_the_administrator_is_switched_off(client):
    link = setup.link()
    client.post(link, FORM)
    User.objects.update(is_active=False)
    assert Client().get(link).status_code == 404
    assert Client().get(setup.link()).status_code == 200


@pytest.mark.parametrize(("days", "status"), [(6.9, 200), (7.1, 404)])
def test_it_expires_after_seven_days(client, monkeypatch, days, status):
    with monkeypatch.context() as then:
        then.setattr("django.core.signing.time", SimpleNamespace(time=lambda: time.time() - days * 24 * 3600))
        link = setup.link()
    assert client.get(link).status_code == status


def test_a_tampered_link_is_refused(client):
    link = setup.link()
    broken = link[:-3] + ("A" if link[-3] != "A" else "B") + link[-2:]
    assert client.post(broken, FORM).status_code == 404
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("password1", "1234567890"), ("password2", "another one"), ("email", "no address")]
)
def test_it_refuses_what_no_account_can_have(client, field, value):
    form = {**FORM, field: value} | ({"password2": value} if field == "password1" else {})
    response = client.post(setup.link(), form)
    assert response.context["form"].errors
    assert not User.objects.exists()


def test_the_page_is_not_kept_by_caches(client):
    assert "no-store" in client.get(setup.link()).headers["Cache-Control"]


@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_one_administrator():
    start = threading.Barrier(2)
    made = []

    def submit(email):
        form = AdministratorForm({**FORM, "email": email})
        assert form.is_valid()
        start.wait()
        made.append(setup.make_administrator(form))
        connection.close()

    both = [threading.Thread(target=submit, args=[email]) for email in ("ada@example.com", "eve@example.com")]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sum(each is not None for each in made) == 1
    assert User.objects.count() == 1
