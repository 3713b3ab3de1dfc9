"""The history beside a page, in a real browser: to search it, rename, delete and undo."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from conversations.history import PAGE
from conversations.models import Conversation
from conversations.tests.visitor import axe

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


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
    # That it is back closes the drawer as well, should somebody have opened it meanwhile.
    page.locator(".toast", has_text="“Alpha” is back").wait_for()
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


def past(owner, count: int) -> None:
    """Conversations of long ago, "Past 0" the newest."""
    made = [Conversation(owner=owner, title=f"Past {number}", titled=True) for number in range(count)]
    Conversation.objects.bulk_create(made)
    for number, each in enumerate(made):
        each.updated = timezone.now() - timedelta(days=30, hours=number)
    Conversation.objects.bulk_update(made, ["updated"])


def test_older_ones_come_by_the_keyboard_and_stay_when_one_is_deleted(visitor):
    page = visitor.page
    past(visitor.user, 2 * PAGE + 7)
    page.goto("/")
    entry, status = page.locator("#history .entry"), page.locator("#status")
    older = page.get_by_role("link", name="Show older")
    older.press("Enter")
    expect(page.get_by_role("link", name=f"Past {PAGE}", exact=True)).to_be_focused()
    expect(status).to_have_text(f"{PAGE} older conversations, {2 * PAGE} in the list")
    expect(entry).to_have_count(2 * PAGE)
    assert not axe(page)
    older.press("Enter")
    expect(page.get_by_role("link", name=f"Past {2 * PAGE}", exact=True)).to_be_focused()
    expect(status).to_have_text(f"7 older conversations, {2 * PAGE + 7} in the list")
    expect(older).to_have_count(0)
    assert entry.locator("a").all_inner_texts() == [f"Past {number}" for number in range(2 * PAGE + 7)]
    assert page.locator("#history h2").all_inner_texts() == ["Older"]

    page.get_by_label(f"Rename or delete “Past {PAGE + 30}”").press("Enter")
    page.get_by_role("button", name="Delete").filter(visible=True).press("Enter")
    expect(page.get_by_role("link", name=f"Past {PAGE + 31}", exact=True)).to_be_focused()
    expect(entry).to_have_count(2 * PAGE + 6)
    assert not page.locator("#history details[open]").count()
    expect(page.get_by_role("link", name=f"Past {PAGE + 29}", exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.get_by_role("link", name=f"Past {PAGE + 30}", exact=True)).to_be_focused()
    expect(entry).to_have_count(2 * PAGE + 7)
    expect(page.get_by_role("link", name=f"Past {PAGE + 29}", exact=True)).to_be_in_viewport()


def test_older_ones_come_once_however_often_they_are_asked_for(visitor):
    page = visitor.page
    past(visitor.user, 2 * PAGE + 7)
    page.goto("/")
    page.get_by_role("link", name="Show older").dblclick()
    page.get_by_role("link", name=f"Past {2 * PAGE - 1}", exact=True).wait_for()
    page.wait_for_load_state("networkidle")
    assert page.locator("#history .entry").count() == 2 * PAGE


def test_older_ones_that_come_after_a_search_was_typed_are_not_put_into_it(visitor):
    page = visitor.page
    past(visitor.user, PAGE + 7)
    page.goto("/")
    held = []

    def hold(route) -> None:
        held.append(route)

    page.route("**/history/?before=*", hold)
    page.get_by_role("link", name="Show older").click()
    page.get_by_role("searchbox").fill("Past 3")
    page.get_by_text("11 conversations found").wait_for(state="attached")
    held[0].continue_()
    page.wait_for_load_state("networkidle")
    expect(page.locator("#history .entry")).to_have_count(11)


def test_without_javascript_a_link_shows_the_older_ones(visitor):
    past(visitor.user, PAGE + 7)
    page = visitor.open(visitor.look(java_script_enabled=False))
    page.goto("/")
    page.get_by_role("link", name="Show older").click()
    assert page.locator("#history .entry a").all_inner_texts() == [f"Past {PAGE + number}" for number in range(7)]
    page.get_by_role("link", name="Show the newest").click()
    assert page.locator("#history .entry").count() == PAGE


def test_a_rotten_place_shows_the_beginning_in_place_of_what_is_there(visitor):
    page = visitor.page
    past(visitor.user, PAGE + 7)
    page.goto("/")
    older = page.get_by_role("link", name="Show older")
    page.route("**/history/?before=*", lambda route: route.continue_(url=f"{visitor.url}/history/?before=rotten"))
    older.click()
    page.get_by_text("does not exist").wait_for()
    assert page.locator("#history .entry").count() == PAGE


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_in_a_narrow_window_what_is_said_covers_nothing_that_is_typed(visitor, script):
    conversation = Conversation.objects.create(owner=visitor.user, title="Alpha", titled=True)
    page = visitor.open(visitor.look(java_script_enabled=script, viewport={"width": 390, "height": 844}))
    page.goto(conversation.get_absolute_url())
    if script:
        page.get_by_role("textbox", name="Question").fill("line\n" * 8)
        # The room that the composer takes is known when the next frame is drawn.
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.evaluate("document.dispatchEvent(new CustomEvent('toast', { detail: { text: 'Well', tone: 'bad' } }))")
    else:
        page.locator(".entry form").evaluate("form => { form.title.value = ' '; form.submit() }")
    page.locator(".toast").wait_for()
    toast, composer = (page.locator(each).bounding_box() for each in (".toast", ".composer"))
    assert toast["y"] + toast["height"] <= composer["y"]
    assert toast["y"] > 0
    visitor.problems[:] = [each for each in visitor.problems if "status of 422" not in each]
