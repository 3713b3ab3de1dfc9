"""Trying a part again in a real browser: live for every viewer, without a script, and not for readers of a link."""

from itertools import product

import pytest
from playwright.sync_api import expect

from conversations.models import Conversation, Share
from conversations.tests.test_conversation_in_browser import same
from conversations.tests.test_share_in_browser import share
from conversations.tests.visitor import axe

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

B = {"kind": "answer", "model": "test-1"}
REFUSED = {"status": 401, "body": {"error": {"message": "no such key"}}}


def partial(site, visitor, page=None):
    """A deliberation in which B did not answer."""
    site.provider.script(B, times=1, **REFUSED)
    page = visitor.finished(visitor.ask(page=page))
    page.locator(".rail", has_text="Partial").wait_for()
    return page


def test_it_tries_an_answer_again_and_then_what_was_written_before_it(site, visitor):
    page = partial(site, visitor)
    second = visitor.open()
    second.goto(page.url)
    page.locator(".strip").get_by_role("button", name="Retry Model 1").click()
    for each in (page, second):
        each.locator(".strip li:nth-child(2):not(.failed)").wait_for()
        visitor.finished(each)
    fresh = visitor.open()
    fresh.goto(page.url)
    same(page, fresh)
    same(second, fresh)
    second.evaluate("document.querySelectorAll('.evidence details').forEach(each => { each.open = true; })")
    # A, C and the chairman
    assert second.get_by_text("Written without the answer of B, which came later.").count() == 3
    for seat, name in enumerate(("Review again Model 0", "Retry Model 1", "Review again Model 2")):
        second.get_by_role("button", name=name).click()
        expect(second.locator(f"[id$='-reviewing-{seat}'] [data-retry]")).to_have_count(0)
        visitor.finished(second)
    second.get_by_role("button", name="Write again").click()
    expect(second.get_by_role("button", name="Write again")).to_have_count(0)
    visitor.finished(second)
    second.locator(".rail:not(:has-text('Partial'))").wait_for()
    assert not second.locator("[data-retry]").count()
    visitor.finished(page)
    fresh.goto(page.url)
    same(page, fresh)
    same(second, fresh)


def test_it_can_be_stopped_and_keeps_what_there_was(site, visitor):
    page = visitor.page
    site.provider.script(B, times=1, fault="length")
    visitor.finished(visitor.ask())
    text = page.locator("[id$='-answering-1-text']").text_content()
    second = visitor.open()
    second.goto(page.url)
    site.provider.script(B, tokens_per_second=30, tokens=3000)
    page.locator(".strip").get_by_role("button", name="Retry Model 1").click()
    for each in (page, second):
        each.locator("[id$='-answering-1'].growing [id$='-open'] > *").first.wait_for()
        # What has ended stays where it was.
        assert each.locator(".main .answer .prose > *").count()
        assert not each.locator("[data-retry]:visible").count()
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_text("What there was before").click()
    assert page.locator(".earlier .prose").text_content() == text
    page.keyboard.press("Escape")
    visitor.finished()
    assert page.locator("[id$='-answering-1-text']").text_content() == text
    page.get_by_text("Tried again without success: it was stopped.").wait_for()
    page.locator(".verdict", has_text="B was asked again; that was stopped").wait_for()
    visitor.finished(second)
    fresh = visitor.open()
    fresh.goto(page.url)
    same(page, fresh)
    same(second, fresh)


def test_it_needs_no_script(site, visitor):
    page = partial(site, visitor, visitor.open(visitor.look(java_script_enabled=False)))
    site.provider.script(B, tokens_per_second=30, tokens=60)
    page.locator(".strip").get_by_role("button", name="Retry Model 1").click()
    page.locator("details[open] [id$='-answering-1'].growing").wait_for()
    visitor.finished(page)
    page.locator("[id$='-answering-1'].complete").wait_for()
    page.get_by_role("button", name="Write again").click()
    visitor.finished(page)


def test_it_is_told_in_a_toast_where_nothing_can_be_tried_again(site, visitor):
    page = partial(site, visitor)
    Conversation.objects.filter(owner=visitor.user).get().turns.get().deliberation.answers.update(outcome="complete")
    page.locator(".strip").get_by_role("button", name="Retry Model 1").click()
    page.locator(".toast", has_text="nothing to be tried again").wait_for()
    visitor.problems[:] = [each for each in visitor.problems if "status of 422" not in each]


def test_it_is_offered_for_the_last_turn_and_not_to_readers_of_a_link(site, visitor):
    page = partial(site, visitor)
    assert page.locator("[data-retry]:visible").count()
    reader = visitor.open()
    reader.goto(share(page))
    page.keyboard.press("Escape")
    for kind in ("Snapshot", "Live"):
        reader.locator(".byline", has_text=kind).wait_for()
        reader.locator(".strip").first.wait_for()
        assert not reader.locator("[data-retry]:visible").count()
        Share.objects.update(live=True, until=None, title="")
        reader.reload()
    visitor.ask("And now?", page)
    visitor.finished(page, turns=2)
    assert not page.locator("[data-retry]:visible").count()


def test_it_has_nothing_that_axe_objects_to_in_any_look(site, visitor):
    page = partial(site, visitor)
    states = {"partial": page.url}
    page.goto("/")
    partial(site, visitor)
    page.locator(".strip").get_by_role("button", name="Retry Model 1").click()
    page.get_by_role("button", name="Write again").wait_for()
    states["late"] = visitor.finished().url
    page.goto("/")
    site.provider.script(B, times=1, fault="length")
    states["trying"] = visitor.finished(visitor.ask()).url
    site.provider.script(B, tokens_per_second=2, tokens=3000)  # it goes on, and does not grow too large to look at
    page.locator(".strip").get_by_role("button", name="Retry Model 1").click()
    page.locator("[id$='-answering-1'].growing [id$='-open'] > *").first.wait_for()
    objections = []
    for theme, width in product(("light", "dark"), (1440, 390)):
        look = visitor.open(visitor.look(color_scheme=theme, viewport={"width": width, "height": 900}))
        # The fold of calls is looked at with what it fetches, and while that is still on its way.
        look.route(f"{states['partial']}calls/*/", lambda route: None)
        for state, address in states.items():
            look.goto(address)
            look.locator("time:not([data-local]), .rail.live").first.wait_for()
            look.evaluate(
                "document.querySelectorAll('.evidence details, .earlier').forEach(each => { each.open = true; })"
            )
            look.wait_for_timeout(200)
            objections += [f"{state} {theme} {width}: {each}" for each in axe(look)]
        look.context.close()
    visitor.contexts[1:] = []
    assert not objections
