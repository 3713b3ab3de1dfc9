"""Pages that come back by the Back button as they were left, from the browser's back-forward cache.

Chromium keeps no page there that says `no-store`, as others may; so it does not hear of that here.
"""

import pytest
from playwright.sync_api import sync_playwright

from conversations.models import Conversation
from conversations.tests.visitor import busy, same

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PERSISTED = "addEventListener('pageshow', (event) => { window.persisted = event.persisted; })"


@pytest.fixture(scope="module")
def browser(chromium_options):
    # What a test hands on is from nowhere, and could open no socket to this machine.
    arguments = [*chromium_options["args"], "--disable-features=LocalNetworkAccessChecks"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            **chromium_options | {"args": arguments}, ignore_default_args=["--disable-back-forward-cache"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(visitor):
    visitor.context.add_init_script(PERSISTED)
    return visitor.page


def go(page, address: str) -> None:
    """There, and it may be kept."""

    def without_no_store(route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "cache-control": "private"})

    page.route(f"**{address}", without_no_store)
    page.goto(address)
    page.unroute_all()


def back(page) -> None:
    page.go_back(wait_until="commit")  # nothing is loaded
    page.wait_for_function("window.persisted")


def test_it_has_what_came_meanwhile(site, visitor, page):
    busy(site, 8)
    visitor.ask()
    place = page.url.removeprefix(visitor.url)
    go(page, place)
    page.locator(".card.growing").first.wait_for()
    page.goto("/settings/")
    other = visitor.open()
    other.goto(place)
    other.get_by_role("button", name="Stop").click()
    visitor.finished(other)
    back(page)
    visitor.finished(page)
    other.reload()
    same(page, other)


def test_its_form_asks_another_question(visitor, page):
    go(page, "/")
    visitor.ask("One?")
    visitor.finished()
    back(page)
    assert page.get_by_role("textbox", name="Question").input_value() == ""
    visitor.ask("Two?")
    visitor.finished()
    assert Conversation.objects.filter(owner=visitor.user).count() == 2
