"""A link in real browsers: its owner's dialog, the page that others open, and what they see once it is revoked."""

from itertools import product

import pytest
from playwright.sync_api import expect

from accounts.models import SiteSettings, User
from conversations.models import Conversation, Share
from conversations.tests import cast
from conversations.tests.visitor import SLOWLY, axe, busy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def other(visitor):
    """Pages of somebody else in a browser of their own: nobody who has signed in, or Bob."""

    def open_page(person=None, **options):
        context = visitor.browser.new_context(base_url=visitor.url, viewport={"width": 1440, "height": 1000}, **options)
        context.set_default_timeout(SLOWLY)
        if person:
            session = cast.session_of(person)
            context.add_cookies([{"name": "sessionid", "value": session, "url": visitor.url}])
        visitor.contexts.append(context)
        return visitor.open(context)

    return open_page


@pytest.fixture
def bob(visitor):
    return User.objects.create_user(f"bob-of-{visitor.user.email}", None, name="Bob")


@pytest.fixture
def public_links(visitor):
    SiteSettings.objects.update_or_create(pk=1, defaults={"public_links": True})
    yield
    SiteSettings.objects.update_or_create(pk=1, defaults={"public_links": False})


def share(page, audience: str = "Team", kind: str = "Snapshot") -> str:
    """Make a link with the dialog of the conversation that is open; its address."""
    page.get_by_role("link", name="Share").click()
    expect(page.get_by_role("radio", name="Private")).to_be_focused()
    page.get_by_role("radio", name=audience).check()
    page.get_by_role("radio", name=kind).check()
    page.get_by_role("button", name="Make the link").click()
    return page.get_by_role("textbox", name="The link").input_value()


def assert_over(page) -> None:
    expect(page.get_by_role("heading", name="This link leads nowhere")).to_be_visible()
    expect(page).to_have_title("This link leads nowhere")
    expect(page.locator(".turn")).to_have_count(0)
    assert "Should we?" not in page.content()


@pytest.mark.parametrize("audience", ["Team", "Anyone with the link"])
def test_it_is_shared_opened_and_revoked_while_it_is_open(visitor, other, bob, public_links, audience):
    owner = visitor.finished(visitor.ask())
    address = share(owner, audience)
    reader = other(bob if audience == "Team" else None)
    reader.goto(address)
    expect(reader.locator(".answer .prose")).to_have_text(owner.locator(".answer .prose").inner_text())
    expect(reader.get_by_text("Shared by Alice")).to_be_visible()
    reader.locator(".evidence details", has_text="Answers").locator("summary").last.click()
    expect(reader.get_by_role("article", name="Model 0")).to_be_visible()
    expect(reader.get_by_role("textbox")).to_have_count(0)
    owner.keyboard.press("Escape")
    owner.get_by_role("link", name="Share").click()
    owner.get_by_text("Opened once by others.").wait_for()
    expect(owner.get_by_role("button", name="Copy", exact=True)).to_be_focused()
    owner.get_by_role("button", name="Revoke the link").click()
    owner.get_by_text("The link is revoked").first.wait_for()
    assert_over(reader)
    reader.goto(address)
    if audience == "Team":
        expect(reader.get_by_role("heading", name="This link leads nowhere")).to_be_visible()
        # The console reports every 4xx.
        visitor.problems[:] = [each for each in visitor.problems if "status of 404" not in each]
    else:
        expect(reader.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_a_live_link_shows_the_council_at_work_and_ends_meanwhile(site, visitor, other, bob):
    owner = visitor.finished(visitor.ask())
    address = share(owner, kind="Live")
    owner.keyboard.press("Escape")
    reader = other(bob)
    reader.goto(address)
    busy(site)
    visitor.ask("And then?", owner)
    expect(reader.get_by_role("heading", name="And then?")).to_be_visible()
    expect(reader.locator(".card.growing .body").first).not_to_be_empty()
    expect(reader.get_by_role("button", name="Stop")).to_have_count(0)
    expect(owner.get_by_role("button", name="Stop")).to_have_count(1)
    owner.get_by_role("link", name="Share").click()
    owner.get_by_role("button", name="Revoke the link").click()
    assert_over(reader)


def test_an_open_page_hears_that_its_link_shows_something_else(visitor, other, bob):
    owner = visitor.finished(visitor.ask())
    address = share(owner)
    owner.keyboard.press("Escape")
    reader = other(bob)
    reader.goto(address)
    reader.wait_for_timeout(1500)  # its socket has looked
    visitor.finished(visitor.ask("And then?", owner), turns=2)
    expect(reader.get_by_text("has changed")).to_have_count(0)
    owner.get_by_role("link", name="Share").click()
    owner.get_by_role("button", name="Update").click()
    owner.get_by_text("The link now shows all 2 questions.").first.wait_for()
    reader.get_by_role("link", name="Reload").click()
    expect(reader.locator(".turn")).to_have_count(2)
    expect(reader.get_by_text("has changed")).to_have_count(0)
    owner.get_by_role("radio", name="Live").check()
    owner.get_by_role("button", name="Save").click()
    expect(reader.get_by_text("What this link shows has changed.")).to_be_visible()


def test_it_copies_the_link(visitor):
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.finished(visitor.ask())
    address = share(page)
    expect(page.get_by_role("button", name="Copy", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("Copied")
    expect(page.get_by_role("button", name="Copied", exact=True)).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()") == address


def test_who_has_signed_in_goes_on_with_a_copy(visitor, other, bob):
    address = share(visitor.finished(visitor.ask()))
    page = other(bob)
    page.goto(address)
    page.get_by_role("link", name="Continue as a copy").click()
    page.get_by_role("button", name="Make the copy").click()
    page.wait_for_url("**/c/**")
    visitor.finished(visitor.ask("And mine?", page), turns=2)
    assert Conversation.objects.get(owner=bob).turns.count() == 2
    assert Conversation.objects.get(owner=visitor.user).turns.count() == 1


def test_it_works_without_javascript(visitor, other, bob):
    visitor.finished(visitor.ask())
    page = visitor.open(visitor.look(java_script_enabled=False))
    page.goto(visitor.page.url)
    page.get_by_role("link", name="Share").click()
    page.get_by_role("radio", name="Team").check()
    page.get_by_role("button", name="Make the link").click()
    address = page.get_by_role("textbox", name="The link").input_value()
    reader = other(bob, java_script_enabled=False)
    reader.goto(address)
    expect(reader.locator(".answer .prose")).to_be_visible()
    reader.get_by_role("link", name="Continue as a copy").click()
    reader.get_by_role("button", name="Make the copy").click()
    reader.wait_for_url("**/c/**")
    page.goto("/settings/links/")
    page.get_by_role("button", name="Revoke").click()
    page.get_by_text("1 link was revoked.").wait_for()
    reader.goto(address)
    expect(reader.get_by_role("heading", name="This link leads nowhere")).to_be_visible()
    visitor.problems[:] = [each for each in visitor.problems if "status of 404" not in each]


def test_a_page_without_a_socket_learns_that_the_link_is_over(visitor, other, bob):
    address = share(visitor.finished(visitor.ask()))
    reader = other(bob)
    reader.route_web_socket("**/ws/**", lambda _socket: None)  # it opens, and lets nothing through
    reader.goto(address)
    Share.objects.update(revoked="2026-01-01T00:00Z")
    assert_over(reader)
    visitor.problems[:] = [each for each in visitor.problems if "status of 404" not in each]


def test_an_idle_page_whose_socket_is_open_asks_for_nothing(visitor, other, bob):
    """A room full of them is one address, and its limits are for what people do."""
    owner = visitor.finished(visitor.ask())
    address, asked = share(owner), []
    for page, place in ((other(bob), address), (visitor.open(), owner.url)):
        with page.expect_websocket() as socket:
            page.goto(place, wait_until="commit")
        socket.value.wait_for_event("framereceived")
        page.on("request", lambda each: asked.append(each.url))
    owner.wait_for_timeout(10_000)  # one that takes its socket for mute begins to ask after nine seconds
    assert not [url for url in asked if "changes/" in url]


def test_it_has_nothing_that_axe_objects_to(visitor, other, bob, public_links):
    owner = visitor.finished(visitor.ask())
    place, address = owner.url, share(owner)
    looks = list(product(("light", "dark"), (1440, 390)))
    readers, objections = [], []

    def look(page, what: str) -> None:
        objections.extend(f"{what}: {each}" for each in axe(page))

    for theme, width in looks:
        mine = visitor.open(visitor.look(color_scheme=theme, viewport={"width": width, "height": 900}))
        mine.goto(place)
        mine.get_by_role("link", name="Share").click()
        mine.get_by_role("textbox", name="The link").wait_for()
        look(mine, f"dialog {theme} {width}")
        once = (theme == "light") == (width == 1440)
        for path in (f"{place}share/", "/settings/links/") if once else ():
            mine.goto(path)
            look(mine, f"{path} {theme} {width}")
        reader = other(bob, color_scheme=theme)
        reader.set_viewport_size({"width": width, "height": 900})
        for path in (f"{address}copy/", f"{address[:-4]}/", address) if once else (address,):
            reader.goto(path)
            look(reader, f"{path} {theme} {width}")
        readers.append(reader)
    owner.get_by_role("button", name="Revoke the link").click()
    for reader, kind in zip(readers, looks, strict=True):
        assert_over(reader)
        look(reader, f"over {kind}")
    assert not objections
    visitor.problems[:] = [each for each in visitor.problems if "status of 404" not in each]


def test_it_fits_a_narrow_window(visitor):
    page = visitor.finished(visitor.ask("A" * 300 + " and `code`"))
    place, address = page.url, share(page)
    page.set_viewport_size({"width": 320, "height": 640})
    for path in (place, f"{place}share/", "/settings/links/", address):
        page.goto(path)
        page.wait_for_timeout(200)
        if path == place:
            page.get_by_role("link", name="Share").click()
            page.get_by_role("textbox", name="The link").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.evaluate("(document.querySelector('dialog[open]') ?? document.body).scrollWidth") <= 320


def test_it_opens_at_its_beginning_and_offers_a_question_that_comes_later(site, visitor, other, bob):
    owner = visitor.finished(visitor.ask())
    visitor.finished(visitor.ask("And then?", owner), turns=2)
    address = share(owner, kind="Live")
    owner.keyboard.press("Escape")
    reader = other(bob)
    reader.set_viewport_size({"width": 1000, "height": 500})
    reader.goto(address)
    expect(reader.locator(".turn")).to_have_count(2)
    assert reader.evaluate("scrollY") == 0
    busy(site)
    visitor.ask("And at last?", owner)
    reader.get_by_role("button", name="A new question").click()
    expect(reader.get_by_role("heading", name="And at last?")).to_be_in_viewport()
    expect(reader.get_by_role("button", name="A new question")).to_have_count(0)
