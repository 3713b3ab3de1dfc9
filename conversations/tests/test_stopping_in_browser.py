"""Stop in a real browser: the button, its key, and what becomes of it where it does not get through."""

import pytest
from playwright.sync_api import expect

from conversations.tests.visitor import busy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_it_stops_and_keeps_what_came(site, visitor):
    busy(site)
    page = visitor.ask()
    page.locator(".card.growing .body > div > *").nth(2).wait_for()
    page.keyboard.press("Escape")
    visitor.finished()
    page.locator(".rail", has_text="Stopped").wait_for()
    assert page.locator(".card.cancelled .body > *").count() >= 3
    assert not page.locator("#work[data-unfinished]").count()


def test_escape_in_a_search_stops_nothing(site, visitor):
    busy(site)
    page = visitor.ask()
    page.get_by_role("searchbox").fill("out")
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    assert page.get_by_role("button", name="Stop", exact=True).is_visible()
    page.get_by_role("textbox", name="Question").focus()
    page.keyboard.press("Escape")
    visitor.finished()


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        (lambda route: route.abort(), "The site cannot be reached."),
        (lambda route: route.fulfill(status=429, body="Slow down"), "Reload the page to see why."),
        (lambda route: route.fulfill(status=502, body="<!DOCTYPE html>Bad gateway"), "Reload the page to see why."),
        (lambda route: route.fulfill(status=200, body="<!DOCTYPE html>Sign in"), "Reload the page to see why."),
    ],
    ids=["no network", "refused in between", "another's page", "signed out"],
)
def test_where_it_does_not_get_through_it_can_be_pressed_again(site, visitor, instead, words):
    busy(site)
    page = visitor.ask()
    page.route("**/stop/", instead)
    page.locator(".card.growing .body > div > *").first.wait_for()
    page.keyboard.press("Escape")
    page.locator(".toast", has_text=words).wait_for()
    button = page.locator("button[form=stop]")
    expect(button).to_have_text("Stop")
    expect(button).not_to_have_attribute("aria-disabled", "true")
    assert page.locator(".card.growing").count()
    page.unroute("**/stop/")
    button.click()
    visitor.finished()
    visitor.problems[:] = [each for each in visitor.problems if "Failed to" not in each]
