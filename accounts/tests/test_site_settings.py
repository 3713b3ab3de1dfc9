"""The one row of what an administrator decides for the whole site."""

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from accounts.models import SiteSettings
from accounts.tests import cast

pytestmark = pytest.mark.django_db
LIST = "/admin/accounts/sitesettings/"
ROW = f"{LIST}1/change/"


def save(client, **given):
    return client.post(ROW, {"signup": "closed", "domains": "", "factor_grace_days": "7", **given})


@pytest.fixture
def alice(client):
    alice = cast.alice()
    client.force_login(alice)
    client.get(LIST)
    return alice


def test_without_a_row_the_careful_defaults_hold():
    assert not SiteSettings.objects.exists()
    assert (SiteSettings.current().signup, SiteSettings.current().public_links) == ("closed", False)


def test_its_list_is_its_form_and_there_is_one_row(client, alice):
    assert client.get(LIST).url == ROW
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{ROW[:-7]}delete/", {"post": "yes"}).status_code == 403
    assert SiteSettings.objects.count() == 1


def test_a_second_row_cannot_be_stored(alice):
    with pytest.raises(IntegrityError):
        SiteSettings.objects.create(pk=2)


def test_an_administrator_decides(client, alice):
    save(client, signup="domains", domains="example.org\nexample.com", public_links="on")
    assert SiteSettings.current().signup == "domains"
    assert SiteSettings.current().domain_names == ["example.org", "example.com"]
    assert SiteSettings.current().public_links


@pytest.mark.parametrize("domains", ["", "  \n "])
def test_where_domains_decide_one_must_be_named(client, alice, domains):
    page = save(client, signup="domains", domains=domains)
    assert "Name at least one domain" in page.text
    assert SiteSettings.current().signup == "closed"


@pytest.mark.parametrize("domain", ["not a domain", "bob@example.com", "http://example.org", "example", "*.org"])
def test_it_names_what_is_no_domain_and_keeps_it(client, alice, domain):
    page = save(client, signup="domains", domains=f"example.org\n{domain}")
    assert f"“{domain}” is not a domain" in page.text
    assert domain in page.text.split("<textarea")[1].split("</textarea>")[0]
    assert SiteSettings.current().signup == "closed"


def test_nobody_else_of_the_staff_sees_or_changes_it(client):
    client.force_login(cast.stan())
    assert client.get(LIST).status_code == 403
    assert not SiteSettings.objects.exists()
    SiteSettings.objects.create(pk=1)
    assert client.get(ROW).status_code == 403
    assert save(client, signup="open").status_code == 403
    assert SiteSettings.current().signup == "closed"


def test_staff_with_the_permission_do(client):
    stan = cast.stan()
    stan.user_permissions.add(*Permission.objects.filter(codename__in=("view_sitesettings", "change_sitesettings")))
    client.force_login(stan)
    client.get(LIST)
    save(client, signup="open")
    assert SiteSettings.current().signup == "open"


def test_an_unknown_way_to_sign_up_is_refused():
    with pytest.raises(ValidationError):
        SiteSettings(pk=1, signup="whoever").full_clean()
