"""The history beside a page, in a real browser: to search it, rename, delete and undo."""

import re

import pytest
from playwright.sync_api import expect

from conversations.models import Conversation

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def test_it_renames_deletes_undoes_and_searches(visitor):
    page = visitor.page
    for title in ("Alpha question", "Beta question"):
        Conversation.objects.create(owner=visitor.user, title=title, titled=True)
    page.goto("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("alpha")
    page.locator("#history .entry", has_text="Beta").wait_for(state="detached")
    page.get_by_text("1 conversation found").wait_for(state="attached")
    page.get_by_label("Rename or delete “Alpha question”").press("Enter")
    page.locator("#history").get_by_role("textbox", name="Title").fill("Gamma")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Gamma").click()
    page.get_by_role("heading", name="Gamma").wait_for()
    page.get_by_label("Rename or delete “Gamma”").press("Enter")
    page.get_by_role("button", name="Delete").click()
    page.locator(".toast", has_text="Gamma").wait_for()
    assert not page.locator("#history .entry", has_text="Gamma").count()
    page.get_by_role("button", name="Undo").click()
    page.locator("#history .entry [aria-current]", has_text="Gamma").wait_for()


def test_the_history_changes_beside_the_page_that_is_read(visitor):
    page = visitor.page
    for title in ("Alpha", "Beta"):
        Conversation.objects.create(owner=visitor.user, title=title, titled=True)
    read = visitor.finished(visitor.ask("What is read?")).url
    page.evaluate("window.stayed = true")
    entry = page.locator("#history .entry")
    title = page.locator("#history").get_by_role("textbox", name="Title")

    page.get_by_label("Rename or delete “Alpha”").press("Enter")
    entry.filter(has_text="Alpha").get_by_role("textbox").fill("   ")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="at least one character").wait_for()
    wrong = page.locator("#history [aria-invalid]")
    expect(wrong).to_be_focused()
    assert wrong.input_value() == "   "
    wrong.fill("Gamma")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Rename or delete “Gamma”")).to_be_focused()
    assert not title.filter(visible=True).count()

    page.get_by_role("searchbox").fill("a")
    page.get_by_text("3 conversations found").wait_for(state="attached")
    page.get_by_label("Rename or delete “Beta”").press("Enter")
    page.get_by_role("button", name="Delete").filter(visible=True).press("Enter")
    page.locator(".toast", has_text="“Beta” was deleted").wait_for()
    expect(entry.filter(has_text="Beta")).to_have_count(0)
    expect(page.locator("#status")).to_have_text(re.compile("“Beta” was deleted"))
    page.get_by_role("button", name="Undo").press("Enter")
    page.locator(".toast").wait_for(state="detached")
    entry.filter(has_text="Beta").wait_for()
    expect(page.get_by_role("link", name="Beta")).to_be_focused()
    expect(entry).to_have_count(3)

    page.locator("#history [aria-current]").hover()
    page.locator(".entry:has([aria-current]) summary").click()
    title.filter(visible=True).fill("Delta")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("Delta")
    expect(page).to_have_title(re.compile("Delta"))
    expect(page.locator("#history [aria-current]")).to_have_text("Delta")
    assert page.url == read
    assert page.evaluate("window.stayed")

    page.locator(".entry:has([aria-current]) summary").click()
    page.get_by_role("button", name="Delete").filter(visible=True).click()
    page.wait_for_url(f"{visitor.url}/")
    page.locator(".toast", has_text="“Delta” was deleted").wait_for()
    visitor.problems[:] = [each for each in visitor.problems if "status of 422" not in each]


def test_a_narrow_window_shows_what_was_deleted_and_not_the_drawer_over_it(visitor):
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 844})
    Conversation.objects.create(owner=visitor.user, title="Alpha", titled=True)
    page.goto("/")
    page.get_by_role("button", name="Show the sidebar").click()
    page.get_by_label("Rename or delete “Alpha”").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Show the sidebar").click()
    page.get_by_role("link", name="Alpha").wait_for()


def test_a_part_of_a_page_is_not_replaced_by_a_whole_one(visitor):
    page = visitor.page
    gone = Conversation.objects.create(owner=visitor.user, title="Alpha", titled=True)
    page.goto("/")
    Conversation.objects.filter(pk=gone.pk).update(deleted="2026-01-01T00:00Z")
    page.get_by_label("Rename or delete “Alpha”").press("Enter")
    page.get_by_role("button", name="Rename").press("Enter")
    page.locator(".toast", has_text="Reload the page").wait_for()
    assert page.locator("#history .entry").count() == 1
    visitor.problems[:] = [each for each in visitor.problems if "status of 404" not in each]
