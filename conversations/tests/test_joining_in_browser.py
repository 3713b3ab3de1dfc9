"""An administrator brings a colleague in, and shows them out again, in a real browser."""

import re
import time
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.mfa.models import Authenticator
from django.utils import timezone
from playwright.sync_api import expect

from accounts import signing_up
from accounts.models import Invitation, SiteSettings, User
from conversations.tests import cast
from conversations.tests.test_every_page_in_browser import axe
from conversations.tests.visitor import SLOWLY, busy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
PASSWORD = "a lighthouse, seven boats"


@pytest.fixture(autouse=True)
def _settings_of_a_new_site(site):
    yield
    SiteSettings.objects.all().delete()


@pytest.fixture
def administrator(visitor):
    """The visitor, who may do everything."""
    user = visitor.user
    user.is_staff = user.is_superuser = True
    user.save()
    user.vouch_for_address()
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "JBSWY3DPEHPK3PXP"})
    return visitor


def nobody(visitor, **options):
    """A browser in which nobody has signed in."""
    context = visitor.browser.new_context(base_url=visitor.url, **options)
    context.set_default_timeout(SLOWLY)
    visitor.contexts.append(context)
    return context


def member(visitor, email: str, **options):
    """A browser in which somebody has just signed in with a password, and has no second factor."""
    user = User.objects.create_user(email, PASSWORD, name="Ida")
    user.vouch_for_address()
    entered = {"method": "password", "at": time.time(), "reauthenticated": True}
    session = cast.session_of(
        user, account_authentication_methods=[entered], account_authentication_methods_user=str(user.pk)
    )
    context = nobody(visitor, **options)
    context.add_cookies([{"name": "sessionid", "value": session, "url": visitor.url}])
    return context


def invite(administrator, email: str) -> str:
    """Make an invitation in the admin and return the link that the page offers to be copied."""
    page = administrator.page
    page.goto("/admin/accounts/user/")
    page.get_by_role("link", name="Invite").click()
    page.get_by_role("textbox", name="E-mail address").fill(email)
    page.get_by_role("button", name="Save").click()
    page.get_by_text(f"The invitation of {email} is made").wait_for()
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    return page.evaluate("navigator.clipboard.readText()")


def join(page, link: str, name: str) -> None:
    page.goto(link)
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    page.get_by_role("heading", name=f"You are in, {name}").wait_for()


def test_a_colleague_is_invited_joins_asks_and_is_shown_out_when_deactivated(site, administrator):
    administrator.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link = invite(administrator, "ira@example.org")

    page = administrator.open(nobody(administrator))
    join(page, link, "Ira")
    page.get_by_role("link", name="Later").click()
    administrator.finished(administrator.ask("What now?", page))
    busy(site)
    page.get_by_role("textbox", name="Question").fill("And then?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator(".card.growing .body > div > *").first.wait_for()

    desk = administrator.page
    desk.goto("/admin/accounts/user/?q=ira@example.org")
    desk.get_by_role("checkbox", name="Select this object for an action - Ira").check()
    desk.get_by_label("Action:").select_option("deactivate")
    desk.get_by_role("button", name="Go", exact=True).click()
    desk.get_by_text("Deactivated: ira@example.org").wait_for()

    expect(page.locator("#connection")).to_contain_text("not available here any more")
    ira = User.objects.get(email="ira@example.org")
    assert not ira.is_active
    page.reload()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.get_by_role("textbox", name="E-mail address").fill("ira@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="switched off").wait_for()


def test_it_signs_up_confirms_and_ends_a_session(site, administrator):
    visitor = administrator  # whom a site needs before anybody can sign up
    SiteSettings.objects.create(pk=1, signup="domains", domains="example.org")
    page = visitor.open(nobody(visitor))
    page.goto("/accounts/login/")
    page.get_by_role("link", name="Sign up").click()
    page.get_by_role("textbox", name="E-mail address").fill("eve@example.net")
    page.get_by_role("button", name="Sign up").click()
    page.get_by_text("one of these domains can sign up: example.org").first.wait_for()
    page.get_by_role("textbox", name="E-mail address").fill("eve@example.org")
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("heading", name="Look in your mail").wait_for()
    page.goto(urlsplit(signing_up.link("eve@example.org")).path)
    page.get_by_role("textbox", name="Name").fill("Eve")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    page.get_by_role("heading", name="You are in").wait_for()
    page.goto("/accounts/logout/")
    page.get_by_role("button", name="Sign out").last.click()
    for each in (page, visitor.open(nobody(visitor))):
        each.goto("/accounts/login/")
        each.get_by_role("textbox", name="E-mail address").fill("eve@example.org")
        each.get_by_label("Password").fill(PASSWORD)
        each.get_by_role("button", name="Sign in", exact=True).click()
        each.get_by_role("textbox", name="Question").wait_for()
    page.goto("/accounts/sessions/")
    page.get_by_role("button", name=re.compile("^Sign out Chrome on Linux")).click()
    page.get_by_text("That browser is signed out").first.wait_for()
    each.reload()
    each.get_by_role("heading", name="Sign in").wait_for()


def test_its_pages_have_nothing_that_axe_objects_to(site, administrator):
    SiteSettings.objects.create(pk=1, signup="domains", domains="example.org")
    week = timezone.now() + timedelta(days=7)
    invitation = Invitation.objects.create(email="ira@example.org", created_by=administrator.user, expires=week)
    unproved = EmailAddress.objects.create(user=administrator.user, email="new@example.org")
    own = [
        "/admin/accounts/invitation/",
        "/admin/accounts/invitation/add/",
        f"/admin/accounts/invitation/{invitation.pk}/change/",
        "/admin/accounts/user/",
        "/admin/accounts/sitesettings/1/change/",
        "/admin/council/provider/add/",
        "/admin/council/languagemodel/add/",
        "/admin/council/council/add/",
        "/accounts/sessions/",
        "/accounts/email/",
        "/settings/",
        "/setup/done/",
        f"/join/{invitation.token}/",
    ]
    public = [
        f"/join/{invitation.token}/",
        "/join/nothing/",
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
        "/accounts/password/reset/key/1-nothing/",
        urlsplit(signing_up.link("eve@example.org")).path,
        "/accounts/confirm-email/",
        f"/accounts/confirm-email/{EmailConfirmationHMAC(unproved).key}/",
        "/accounts/confirm-email/nothing/",
    ]
    entered = [
        "/accounts/password/change/",
        "/accounts/2fa/",
        "/accounts/2fa/totp/activate/",
        "/accounts/2fa/webauthn/add/",
    ]
    objections = []
    for theme, width in (("light", 1440), ("dark", 390)):
        options = {"color_scheme": theme, "viewport": {"width": width, "height": 900}}
        for context, addresses in (
            (administrator.look(**options), own),
            (nobody(administrator, **options), public),
            (member(administrator, f"{theme}@example.org", **options), entered),
        ):
            page = context.new_page()  # axe itself tries inline styles, of which the console would complain
            for address in addresses:
                page.goto(address)
                assert addresses is not entered or page.url.endswith(address), page.url
                objections += [f"{address} {theme} {width}: {each}" for each in axe(page)]
            context.close()
            administrator.contexts.remove(context)
    assert not objections
