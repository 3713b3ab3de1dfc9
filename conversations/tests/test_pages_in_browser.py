"""What a person sees and does, in a real browser on the real site."""

import gzip
import json
import re
import uuid
from importlib.resources import files
from itertools import product

import pytest
from playwright.sync_api import expect

from accounts.models import User
from conversations.markdown import clean
from conversations.models import Conversation
from conversations.tests import cast, dom
from conversations.tests.conftest import session_of
from conversations.tests.injections import INJECTIONS
from council.models import Council

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

SLOWLY = 15_000
"""Milliseconds that a busy machine may take for anything; no test asks how long it was."""

expect.set_options(timeout=SLOWLY)

TREE = """selector => {
  const copy = document.querySelector(selector).cloneNode(true);
  for (const each of copy.querySelectorAll("*")) {
    each.removeAttribute("data-htmx-powered");
    each.removeAttribute("open");
    if (!each.classList.length) each.removeAttribute("class");
  }
  return copy.outerHTML;
}"""
READING = """place => {
  const box = document.querySelector("[id$='-answering-0'] .body");
  const edge = box.getBoundingClientRect().top + 8;
  const at = place ?? [...box.children].findIndex((each) => each.getBoundingClientRect().bottom > edge);
  return [at, box.children[at].getBoundingClientRect().top];
}"""
SHIFTS = """window.shifts = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) shifts.push(each.value);
}).observe({ type: "layout-shift", buffered: true });"""


@pytest.fixture(autouse=True)
def _fast_provider(browser, site):
    site.provider.reset()
    site.provider.configure(first_token_ms=1, tokens_per_second=0, tokens=60, ranking="listed")


@pytest.fixture(scope="module")
def council(site) -> Council:
    return cast.council(site.provider.url)


class Visitor:
    """Someone new who has signed in, at a browser of their own. `problems` is what the console complained of."""

    def __init__(self, site, browser, **options) -> None:
        self.url = site.url
        self.user = User.objects.create_user(f"{uuid.uuid4().hex}@example.org", None, name="Alice")
        self.browser = browser
        self.session = session_of(self.user)
        self.problems: list[str] = []
        self.contexts = []
        self.context = self.look(**options)
        self.page = self.open()

    def look(self, **options):
        """Another browser of the same person."""
        options = {"viewport": {"width": 1440, "height": 1000}, **options}
        context = self.browser.new_context(base_url=self.url, **options)
        context.set_default_timeout(SLOWLY)
        context.add_cookies([{"name": "sessionid", "value": self.session, "url": self.url}])
        self.contexts.append(context)
        return context

    def open(self, context=None):
        page = (context or self.context).new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda each: self.problems.append(str(each)))
        page.on("dialog", lambda each: self.problems.append(f"a dialog: {each.message}") or each.dismiss())
        return page

    def _heard(self, message) -> None:
        # To leave a page while its socket opens is nobody's fault, and Chromium says so all the same.
        if message.type in {"error", "warning"} and "closed before the connection is established" not in message.text:
            self.problems.append(message.text)

    def ask(self, question: str = "Should we?", page=None):
        """Ask with the composer of the page that is open, or a new question."""
        page = page or self.page
        if page.url == "about:blank":
            page.goto("/")
        page.get_by_role("textbox", name="Question").fill(question)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_url("**/c/**")
        return page

    def finished(self, page=None, turns: int = 1):
        page = page or self.page
        page.locator(f".turn:nth-child({turns}):not(.unfinished)").wait_for()
        return page


@pytest.fixture
def visitor(site, browser, council):
    visitor = Visitor(site, browser)
    yield visitor
    for context in visitor.contexts:
        context.close()
    assert not visitor.problems


def busy(site) -> None:
    """The next three answers take longer than any test."""
    site.provider.script({"kind": "answer"}, times=3, tokens_per_second=30, tokens=3500)


def hanging(site, member: int) -> None:
    """This member writes some tokens and then nothing more."""
    site.provider.script({"kind": "answer", "model": f"test-{member}"}, times=1, fault="hang", n=30)


def same(mine, other, selector: str = "#turns") -> None:
    one, two = (dom.parse(page.evaluate(TREE, selector)).plain() for page in (mine, other))
    assert not dom.differences(one, two)


def test_it_shows_a_deliberation_as_it_happens_and_ends_as_a_reload_does(site, visitor):
    site.provider.configure(tokens_per_second=120, tokens=120)
    page = visitor.page
    page.add_init_script(SHIFTS)
    visitor.ask("Outbox or *queue*?")
    assert page.title().startswith("• ")
    page.locator(".shows-answers .card.growing .body > div > *").first.wait_for()
    page.locator(".card.growing .tok", has_text="tok").first.wait_for()
    page.locator(".rail li[aria-current]", has_text="Answers").wait_for()
    page.locator(".shows-reviews .card.growing .body > div > *").first.wait_for()
    assert page.locator("#status").inner_text() == "Peer review has begun."
    page.locator(".shows-synthesis .answer.growing .prose > div > *").first.wait_for()
    visitor.finished()
    expect(page).to_have_title(re.compile("^✓ "))
    assert page.locator("#status").inner_text() == "The council has answered."
    page.locator(".verdict dd", has_text="3 of 3").wait_for()
    assert page.locator(".matrix tbody tr").count() == 3
    assert page.locator(".standings tbody tr").count() == 3
    assert page.locator("[data-ai-generated]").count() >= 4
    page.wait_for_timeout(500)
    assert sum(page.evaluate("shifts")) <= 0.02
    fresh = visitor.open()
    fresh.goto(page.url)
    fresh.locator("time:not([data-local])").first.wait_for()
    same(page, fresh)
    same(page, fresh, "#work")
    assert page.locator("#title").inner_text() == page.locator("#history [aria-current]").inner_text()


def test_it_equals_a_reload_in_the_middle_too(site, visitor):
    hanging(site, 1)
    site.provider.script({"kind": "answer", "model": "test-2"}, times=1, tokens_per_second=10, tokens=3500)
    page = visitor.ask()
    page.locator(".card", has_text="done").wait_for()
    page.locator("[id$='-answering-1-open'] > *").first.wait_for()
    page.wait_for_timeout(2500)  # a checkpoint
    fresh = visitor.open()
    fresh.goto(page.url)
    for selector in ("[id$='-answering-0']", "[id$='-answering-1-text']", "[id$='-rail']"):
        same(page, fresh, selector)
    visitor.page.get_by_role("button", name="Stop").click()
    visitor.finished()
    visitor.finished(fresh)
    same(page, fresh)


def test_it_shows_a_second_tab_the_follow_up(visitor):
    page = visitor.finished(visitor.ask())
    second = visitor.open()
    second.goto(page.url)
    visitor.ask("And in six months?", page)
    visitor.finished(page, turns=2)
    visitor.finished(second, turns=2)
    second.get_by_role("heading", name="And in six months?").wait_for()
    same(page, second)
    assert "#d" in page.url


def test_it_stops_and_keeps_what_came(site, visitor):
    busy(site)
    page = visitor.ask()
    page.locator(".card.growing .body > div > *").nth(2).wait_for()
    page.keyboard.press("Escape")
    visitor.finished()
    page.locator(".rail", has_text="Stopped").wait_for()
    assert page.locator(".card.cancelled .body > *").count() >= 3
    assert not page.locator("#work[data-unfinished]").count()


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


def test_it_is_live_again_after_a_way_back(site, visitor):
    busy(site)
    page = visitor.ask()
    page.locator(".card.growing .body > div > *").first.wait_for()
    page.goto("/")
    page.go_back()
    page.locator(".card.growing .body > div > *").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    visitor.finished()
    assert page.get_by_role("textbox", name="Question").input_value() == ""


def test_it_goes_on_without_a_socket(visitor):
    page = visitor.page
    page.route_web_socket("**/ws/**", lambda socket: socket.close(code=1011))
    visitor.ask()
    visitor.finished()
    page.locator(".answer .prose > *").first.wait_for()
    assert page.locator("#connection").is_hidden()


def test_it_says_that_it_reconnects_and_does_not_for_what_is_gone(site, visitor):
    busy(site)
    page = visitor.ask()
    page.locator(".card.growing .body > div > *").first.wait_for()
    page.route_web_socket("**/ws/**", lambda socket: socket.close(code=1011))
    # The network goes when the socket has: without it, it would be closed only after a minute.
    page.evaluate(
        """new Promise(done => {
            const socket = document.querySelector('#live')._htmx.ws.connection.socket;
            socket.addEventListener('close', done);
            socket.close(1000);
        })"""
    )
    visitor.context.set_offline(offline=True)
    page.get_by_text("Reconnecting, your deliberation continues").wait_for()
    visitor.context.set_offline(offline=False)
    Conversation.objects.filter(owner=visitor.user).update(deleted="2026-01-01T00:00Z")
    page.get_by_text("not available here any more").wait_for()
    visitor.problems.clear()


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


def test_it_fills_an_example_and_does_not_send_it(visitor):
    page = visitor.page
    page.goto("/")
    page.get_by_role("button", name="Argue both sides").click()
    assert page.get_by_role("textbox", name="Question").input_value().startswith("Argue both sides")
    assert page.url == f"{visitor.url}/"


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
    expect(page.locator("#history")).to_be_focused()
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


def test_the_tab_s_icon_tells_that_it_works_and_that_it_is_done_until_somebody_looks(site, visitor):
    hanging(site, 0)
    page = visitor.page
    # No tab of a headless browser is ever hidden.
    page.add_init_script("""let away = false;
      Object.defineProperty(document, "hidden", { get: () => away });
      window.look = (at) => { away = !at; document.dispatchEvent(new Event("visibilitychange")); };""")
    icon = page.locator("link[rel=icon]")
    visitor.ask()
    expect(icon).to_have_attribute("href", re.compile("favicon-working"))
    page.evaluate("look(false)")
    page.evaluate("document.querySelector('#stop').requestSubmit()")
    visitor.finished()
    expect(icon).to_have_attribute("href", re.compile("favicon-done"))
    assert page.request.get(icon.get_attribute("href")).headers["content-type"].startswith("image/svg")
    page.evaluate("look(true)")
    expect(icon).to_have_attribute("href", re.compile("favicon[^-]*svg$"))
    page.evaluate("look(false)")
    expect(icon).to_have_attribute("href", re.compile("favicon[^-]*svg$"))


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


def test_it_keeps_what_has_the_focus_in_view(site, visitor):
    busy(site)
    page = visitor.ask()
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    visitor.finished()
    assert page.evaluate("document.activeElement.id") == "main"
    site.provider.reset()
    site.provider.configure(first_token_ms=1, tokens_per_second=0, tokens=60)
    visitor.ask("And now?")
    visitor.finished(turns=2)
    page.evaluate("document.querySelectorAll('.evidence details').forEach(each => { each.open = true; })")
    page.locator(".turn:nth-child(2) summary").first.focus()
    while page.evaluate("!document.activeElement.closest('.dock')"):
        top, dock = page.evaluate(
            "[document.activeElement, document.querySelector('.dock')].map(each => each.getBoundingClientRect().top)"
        )
        assert top < dock
        page.keyboard.press("Tab")


def test_it_opens_what_a_link_points_to(visitor):
    page = visitor.finished(visitor.ask())
    page.locator(".strip a").nth(1).click()
    page.locator("[id$='-answering-1'] .body").wait_for()
    page.locator(".matrix tbody a").first.click()
    page.locator("[id$='-reviewing-0'] .body").wait_for()


def test_it_does_not_yank_a_reader_away(site, visitor):
    hanging(site, 2)
    site.provider.configure(tokens=300)
    page = visitor.ask()
    page.locator(".card.complete").nth(1).wait_for()
    page.locator("[id$='-answering-0'] .body").focus()
    page.keyboard.press("PageDown")
    page.wait_for_timeout(500)
    place, before = page.evaluate(READING)
    site.provider.reset()  # the one that hung breaks off, is asked again, and the stages go by
    page.locator(".shows-synthesis").wait_for()
    assert abs(page.evaluate(READING, place)[1] - before) < 60
    assert page.locator("[id$='-answers']").evaluate("fold => fold.open")
    page.locator("#latest").click()
    assert page.locator("#latest").is_hidden()


def test_it_shows_hostile_texts_as_texts(site, council, visitor):
    texts = [clean(each) for each in INJECTIONS]
    hostile = "\n\n".join(texts)
    chunk = {"choices": [{"index": 0, "delta": {"content": hostile}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    site.provider.script({"kind": "answer"}, events=[[0, chunk], [0, end], [0, "[DONE]"]])
    site.provider.script({"kind": "synthesis"}, events=[[0, chunk], [0, end], [0, "[DONE]"]])
    short = [each for each in texts if 0 < len(each) <= 100]
    for seat, name in zip(council.seats.select_related("language_model"), short, strict=False):
        seat.language_model.name = name
        seat.language_model.save()
    try:
        page = visitor.finished(visitor.ask(hostile[:20_000]))
        for title in short:
            Conversation.objects.create(owner=visitor.user, title=title, titled=True)
        Conversation.objects.filter(pk=page.url.split("/c/")[1][:36]).update(title="<img src=x onerror=alert(1)>")
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
        for position, seat in enumerate(council.seats.select_related("language_model")):
            seat.language_model.name = f"Model {position}"
            seat.language_model.save()


def axe(page) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [f"{each['id']}: {node['html'][:160]} {node['any'][:1]}" for each in found for node in each["nodes"]]


def test_it_has_nothing_that_axe_objects_to(site, visitor):
    done = visitor.finished(visitor.ask()).url
    visitor.page.goto("/")
    site.provider.script({"kind": "answer"}, status=401, body={"error": {"message": "no such key"}})
    failed = visitor.finished(visitor.ask()).url
    visitor.page.get_by_role("link", name="Ask again").click()
    assert visitor.page.get_by_role("textbox", name="Question").input_value() == "Should we?"
    site.provider.reset()
    busy(site)
    visitor.page.goto("/")
    streaming = visitor.ask().url
    visitor.page.locator(".card.growing .body > div > *").nth(2).wait_for()
    objections = []
    for theme, width in product(("light", "dark"), (1440, 390)):
        page = visitor.open(visitor.look(color_scheme=theme, viewport={"width": width, "height": 900}))
        for state, address in {"empty": "/", "streaming": streaming, "done": done, "failed": failed}.items():
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
    sizes = {url: len(gzip.compress(each.body(), 9)) for url, each in bodies.items()}
    assert len(sizes) <= 10, json.dumps(sizes, indent=1)
    assert sum(size for url, size in sizes.items() if url.endswith(".js")) <= 32 * 1024
    assert sum(size for url, size in sizes.items() if url.endswith(".css")) <= 18 * 1024
