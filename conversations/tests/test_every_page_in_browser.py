"""What every page promises, in a real browser: where one asks, the keys, no script, hostile texts, access, size."""

import gzip
import json
import re
from itertools import product

import pytest
from playwright.sync_api import expect

from accounts.models import User
from conversations.markdown import clean
from conversations.models import Conversation
from conversations.tests import cast
from conversations.tests.injections import INJECTIONS
from conversations.tests.visitor import axe, busy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_it_fills_an_example_and_does_not_send_it(visitor):
    page = visitor.page
    page.goto("/")
    page.get_by_role("button", name="Argue both sides").click()
    assert page.get_by_role("textbox", name="Question").input_value().startswith("Argue both sides")
    assert page.url == f"{visitor.url}/"


def test_it_keeps_a_draft_until_the_server_has_it_and_asks_once(visitor):
    page = visitor.page
    page.goto("/")
    box = page.get_by_role("textbox", name="Question")
    box.fill("Half a thought")
    page.reload()
    assert box.input_value() == "Half a thought"
    box.press("Shift+Enter")
    box.press_sequentially("and more")
    assert box.input_value() == "Half a thought\nand more"
    box.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    assert page.url == f"{visitor.url}/"
    page.evaluate("const form = document.forms.composer ?? composer; form.requestSubmit(); form.requestSubmit();")
    page.wait_for_url("**/c/**")
    visitor.finished()
    assert page.locator(".turn").count() == 1
    page.goto("/")
    assert box.input_value() == ""
    assert Conversation.objects.filter(owner=visitor.user).count() == 1


def test_it_keeps_a_question_that_the_server_never_had_for_whoever_typed_it(visitor):
    page = visitor.page
    page.goto("/")
    box = page.get_by_role("textbox", name="Question")
    box.fill("What was I about to ask?")
    here, _ = visitor.context.cookies(), visitor.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_url("**/accounts/login/**")
    other = User.objects.create_user("bob.of.drafts@example.org", None, name="Bob")
    visitor.context.add_cookies([{"name": "sessionid", "value": cast.session_of(other), "url": visitor.url}])
    page.goto("/")
    assert box.input_value() == ""
    visitor.context.add_cookies(here)
    page.goto("/")
    assert box.input_value() == "What was I about to ask?"
    visitor.ask("What was I about to ask?")
    page.goto("/")
    assert box.input_value() == ""
    assert Conversation.objects.filter(owner=visitor.user).count() == 1


def test_it_asks_once_though_the_answer_to_the_form_never_came(visitor):
    page = visitor.page
    page.goto("/")
    page.get_by_role("textbox", name="Question").fill("Did you hear me?")
    page.route(f"{visitor.url}/", lambda route: (route.fetch(max_redirects=0), route.abort()))
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Ask", exact=True).click()
    assert Conversation.objects.filter(owner=visitor.user).exists()
    page.unroute_all()
    page.goto("/")
    assert page.get_by_role("textbox", name="Question").input_value() == "Did you hear me?"
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_url("**/c/**")
    visitor.finished()
    assert Conversation.objects.filter(owner=visitor.user).count() == 1
    page.goto("/")
    assert page.get_by_role("textbox", name="Question").input_value() == ""
    assert page.evaluate("localStorage.getItem('sent')") is None
    visitor.problems[:] = [each for each in visitor.problems if "ERR_FAILED" not in each]


def test_it_keeps_what_was_typed_when_a_question_is_refused(site, visitor):
    page = visitor.page
    page.goto("/")
    box = page.get_by_role("textbox", name="Question")
    box.fill("   ")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_role("alert").wait_for()
    box.fill("x" * 50_001)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_role("alert").filter(has_text="50,001").wait_for()
    assert len(box.input_value()) == 50_001
    # What it was about is being mended.
    box.press("End")
    box.press("Backspace")
    page.get_by_role("alert").filter(has_text="50,001").wait_for(state="detached")
    busy(site)
    box.fill("One")
    page.get_by_role("combobox", name="Mode").select_option("answers")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_url("**/c/**")
    box.fill("Two")
    box.press("Enter")
    page.get_by_role("alert").filter(has_text="still at work").wait_for()
    assert box.input_value() == "Two"
    assert page.get_by_role("combobox", name="Mode").input_value() == "answers"
    # Refusals are what this test is about, and the console reports every 4xx.
    visitor.problems[:] = [each for each in visitor.problems if not re.search("status of 4(09|22)", each)]


def test_it_obeys_the_keyboard(visitor):
    page = visitor.page
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.finished(visitor.ask())
    page.keyboard.press("Shift+Escape")
    assert page.evaluate("document.activeElement.name") == "question"
    page.keyboard.press("Control+Shift+c")
    expect(page.locator("#status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(".answer .prose").inner_text().strip()
    page.keyboard.press("Control+/")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+o")
    page.wait_for_url(f"{visitor.url}/")


def test_it_works_without_javascript(site, visitor):
    page = visitor.open(visitor.look(java_script_enabled=False))
    page.goto("/")
    visitor.ask("Without a script?", page)
    visitor.finished(page)
    assert page.locator(".answer .prose").inner_text()
    page.locator("#history summary").first.click()
    page.locator("#history").get_by_role("textbox", name="Title").fill("Renamed by hand")
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("heading", name="Renamed by hand").wait_for()
    page.locator("#history summary").first.click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("heading", name="Renamed by hand").wait_for()
    page.get_by_role("searchbox").fill("by hand")
    page.get_by_role("searchbox").press("Enter")
    assert page.locator("#history .entry").count() == 1
    busy(site)
    page.locator("#history .entry a").click()
    visitor.ask("And now?", page)
    page.get_by_role("button", name="Stop").click()
    visitor.finished(page, turns=2)
    site.provider.script({"kind": "answer"}, times=3, fault="refuse_auth")
    visitor.ask("Nobody there?", page)
    visitor.finished(page, turns=3)
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("textbox", name="Question")).to_have_value("Nobody there?")


def test_it_shows_hostile_texts_as_texts(site, site_council, visitor):
    texts = [clean(each) for each in INJECTIONS]
    hostile = "\n\n".join(texts)
    chunk = {"choices": [{"index": 0, "delta": {"content": hostile}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    site.provider.script({"kind": "answer"}, events=[[0, chunk], [0, end], [0, "[DONE]"]])
    site.provider.script({"kind": "synthesis"}, events=[[0, chunk], [0, end], [0, "[DONE]"]])
    short = [each for each in texts if 0 < len(each) <= 100]
    for seat, name in zip(site_council.seats.select_related("language_model"), short, strict=False):
        seat.language_model.name = name
        seat.language_model.save()
    try:
        page = visitor.finished(visitor.ask(hostile[:20_000]))
        for title in short:
            Conversation.objects.create(owner=visitor.user, title=title, titled=True)
        # Titled: a title that comes from the provider only now is not to replace it.
        named = {"title": "<img src=x onerror=alert(1)>", "titled": True}
        Conversation.objects.filter(pk=page.url.split("/c/")[1][:36]).update(**named)
        page.reload()
        for summary in page.locator(".evidence summary").all():
            summary.click()
        page.wait_for_timeout(300)
        assert (
            page.evaluate(
                "document.querySelectorAll('.prose :is(script, img, iframe, form, [style], [onclick])').length"
            )
            == 0
        )
        assert page.locator("#title").inner_text() == "<img src=x onerror=alert(1)>"
    finally:
        for position, seat in enumerate(site_council.seats.select_related("language_model")):
            seat.language_model.name = f"Model {position}"
            seat.language_model.save()


def test_it_has_nothing_that_axe_objects_to(site, visitor):
    done = visitor.finished(visitor.ask()).url
    visitor.page.goto("/")
    site.provider.script({"kind": "answer"}, times=3, status=401, body={"error": {"message": "no such key"}})
    failed = visitor.finished(visitor.ask()).url
    visitor.page.get_by_role("button", name="Ask again").click()
    assert visitor.page.get_by_role("textbox", name="Question").input_value() == "Should we?"
    growing = {}
    for kind, shown in (("ballot", ".review"), ("synthesis", ".answer"), ("answer", ".card")):
        busy(site, 8, kind)  # what is looked at while it grows does not grow too large
        visitor.page.goto("/")
        growing[kind] = visitor.ask().url
        visitor.page.locator(f"{shown}.growing").first.wait_for()
    visitor.page.goto("/")
    busy(site, 8)
    stopped = visitor.ask().url
    visitor.page.locator(".growing .body > div > *").first.wait_for()
    visitor.page.get_by_role("button", name="Stop").click()
    visitor.finished()
    visitor.page.goto(growing["answer"])
    visitor.page.locator(".card.growing .body > div > *").nth(2).wait_for()
    states = {"empty": "/", **growing, "done": done, "failed": failed, "stopped": stopped}
    objections = []
    for theme, width in product(("light", "dark"), (1440, 390)):
        page = visitor.open(visitor.look(color_scheme=theme, viewport={"width": width, "height": 900}))
        for state, address in states.items():
            page.goto(address)
            page.locator("time:not([data-local]), .rail.live, .hello").first.wait_for()
            page.evaluate("document.querySelectorAll('.evidence details').forEach(each => { each.open = true; })")
            page.wait_for_timeout(200)
            objections += [f"{state} {theme} {width}: {each}" for each in axe(page)]
        page.context.close()
    visitor.contexts[1:] = []
    assert not objections


def test_it_fits_a_narrow_window(site, visitor):
    done = visitor.finished(visitor.ask("A" * 300 + " and `code`")).url
    page = visitor.page
    page.set_viewport_size({"width": 320, "height": 640})
    busy(site)
    page.goto("/")
    for address in ("/", done, visitor.ask().url):
        page.goto(address)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_it_keeps_to_its_budget(visitor):
    done = visitor.finished(visitor.ask()).url
    page = visitor.open(visitor.look())
    bodies = {}
    page.on("response", lambda each: bodies.setdefault(each.url, each))
    page.goto(done)
    page.wait_for_load_state("networkidle")
    # A copy: another response may come while one is read.
    sizes = {url: len(gzip.compress(each.body(), 9)) for url, each in list(bodies.items())}
    assert len(sizes) <= 10, json.dumps(sizes, indent=1)
    assert sum(size for url, size in sizes.items() if url.endswith(".js")) <= 32 * 1024
    assert sum(size for url, size in sizes.items() if url.endswith(".css")) <= 18 * 1024


def test_a_refused_form_is_gone_on_with_at_what_is_wrong(visitor):
    page = visitor.page
    page.goto("/accounts/password/set/")
    for name in ("New password", "New password again"):
        page.get_by_label(name, exact=True).fill("short")
    page.get_by_role("button", name="Set the password").click()
    page.locator(".errorlist").first.wait_for()
    expect(page.get_by_label("New password", exact=True)).to_be_focused()
