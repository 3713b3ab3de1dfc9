"""The page of a conversation in a real browser: while the council works, once it is done, and in its tab."""

import re

import pytest
from playwright.sync_api import expect

from conversations.models import Conversation
from conversations.tests import cast
from conversations.tests.visitor import SLOWLY, axe, busy, same
from council.models import Council, LanguageModel

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

READING = """place => {
  const box = document.querySelector("[id$='-answering-0'] .body");
  const edge = box.getBoundingClientRect().top + 8;
  const at = place ?? [...box.children].findIndex((each) => each.getBoundingClientRect().bottom > edge);
  return [at, box.children[at].getBoundingClientRect().top];
}"""
# A tail begins further down once blocks of it are closed. What these say stays where it was, in another element.
SHIFTS = """window.shifts = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) {
    const moved = each.sources.filter((source) => !source.node?.id?.endsWith("-open"));
    if (!each.hadRecentInput && moved.length) shifts.push(each.value);
  }
}).observe({ type: "layout-shift", buffered: true });"""


def hanging(site, member: int) -> None:
    """This member writes some tokens and then nothing more."""
    site.provider.script({"kind": "answer", "model": f"test-{member}"}, times=1, fault="hang", n=30)


def test_it_shows_a_deliberation_as_it_happens_and_ends_as_a_reload_does(site, visitor):
    site.provider.configure(tokens_per_second=30, tokens=180)  # a stage lasts until a slow browser has looked at it
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


@pytest.fixture
def long_names(site):
    """A council of models whose names need more than half of a narrow line; nobody is offered it afterwards."""
    made = cast.council(site.provider.url, slug="long-names")
    models = LanguageModel.objects.filter(slug__startswith=made.slug)
    models.update(name="A model whose name needs more than half of the line")
    yield made
    Council.objects.filter(pk=made.pk).update(enabled=False)


def test_nothing_jumps_in_a_narrow_window(site, visitor, long_names):
    site.provider.configure(tokens_per_second=60, tokens=150)
    page = visitor.open(visitor.look(viewport={"width": 390, "height": 844}))
    page.add_init_script(SHIFTS)
    page.goto("/")
    page.get_by_role("combobox", name="Council").select_option(long_names.slug)
    visitor.ask(
        "Should we move the event pipeline from a queue to an outbox table that is read by six consumers?", page
    )
    visitor.finished(page)
    page.wait_for_timeout(500)
    assert sum(page.evaluate("shifts")) <= 0.02


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


@pytest.mark.parametrize("late", ["hx-ws", "conversation"])
def test_it_opens_its_socket_however_late_a_script_comes(site, visitor, late):
    busy(site)
    page = visitor.page
    page.route(f"**/{late}*.js", lambda route: (page.wait_for_timeout(500), route.continue_()))
    visitor.ask()
    page.locator(".card.growing .body > div > *").first.wait_for()
    assert page.evaluate("document.querySelector('#live')._htmx.ws.connection.socket.readyState") == 1


SOCKETS = {"closed": lambda socket: socket.close(code=1011), "mute": lambda _socket: None}


@pytest.mark.parametrize("handle", SOCKETS.values(), ids=SOCKETS)
def test_it_goes_on_without_a_socket(site, visitor, handle):
    site.provider.script({"kind": "answer"}, times=3, tokens_per_second=30, tokens=200)
    page = visitor.page
    page.route_web_socket("**/ws/**", handle)
    visitor.ask()
    page.locator(".turn.unfinished").wait_for()
    visitor.finished()
    page.locator(".answer .prose > *").first.wait_for()
    assert page.locator("#connection").is_hidden()


def test_it_offers_the_next_question_at_the_end_where_no_script_runs(site, visitor):
    """Until then the page loads itself anew, and what was typed would be gone."""
    site.provider.script({"kind": "answer"}, times=3, tokens_per_second=30, tokens=60)
    page = visitor.ask(page=visitor.open(visitor.look(java_script_enabled=False)))
    page.locator(".turn.unfinished").wait_for()
    composer = page.get_by_role("textbox", name="Question")
    assert composer.is_hidden()
    page.get_by_text("the next question can be asked here").wait_for()
    visitor.finished(page)
    assert composer.is_visible()
    assert not page.get_by_text("the next question can be asked here").count()


def test_it_gives_up_a_socket_that_falls_mute_and_stays_open(site, visitor):
    site.provider.script({"kind": "answer"}, times=3, tokens_per_second=30, tokens=200)
    page = visitor.page
    passed = []

    def first_word_only(socket) -> None:
        heard = []
        passed.append(heard)
        server = socket.connect_to_server()
        server.on_message(lambda message: heard or (heard.append(message), socket.send(message)))

    page.route_web_socket("**/ws/**", first_word_only)
    visitor.ask()
    page.locator(".turn.unfinished").wait_for()
    page.locator(".turn:not(.unfinished)").wait_for(timeout=4 * SLOWLY)
    assert len(passed) >= 2
    assert all(len(heard) == 1 for heard in passed)
    page.locator("#connection").wait_for(state="hidden")


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


def test_it_follows_what_is_written_after_a_reload_too(site, visitor):
    site.provider.script({"kind": "answer"}, times=3, tokens_per_second=100, tokens=3500)
    page = visitor.ask()
    box = page.locator("[id$='-answering-0'] .body")
    while box.evaluate("each => each.scrollHeight < 2 * each.clientHeight"):
        page.wait_for_timeout(50)
    page.reload()
    at = box.evaluate("each => each.scrollHeight")
    while box.evaluate("each => each.scrollHeight") < at + 40:
        page.wait_for_timeout(50)
    assert box.evaluate("each => each.scrollHeight - each.scrollTop - each.clientHeight") < 24


@pytest.mark.parametrize(("characters", "unfolds"), [(100, set()), (300, {390}), (900, {390, 1440})])
def test_a_question_of_more_than_six_lines_is_folded(site, visitor, characters, unfolds):
    site.provider.configure(first_token_ms=1, tokens_per_second=0, tokens=20)
    question = ("Should we? " * 90)[:characters]
    page = visitor.finished(visitor.ask(question))
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        heading = page.locator(".question h2")
        lines = (
            "each => Math.round(each.getBoundingClientRect().height / parseFloat(getComputedStyle(each).lineHeight))"
        )
        assert heading.evaluate(lines) <= 6
        assert page.get_by_text("Show all").is_visible() == (width in unfolds)
        if width in unfolds:
            page.get_by_text("Show all").click()
            assert heading.evaluate(lines) > 6
            page.get_by_text("Show less").click()


def test_the_key_for_copying_takes_the_answer_that_stands_for_the_council_s(site, visitor):
    site.provider.script({"kind": "synthesis"}, fault="content_filter", n=20)
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.finished(visitor.ask())
    page.get_by_text("What the chairman had written").wait_for()
    page.keyboard.press("Control+Shift+C")
    while not (copied := page.evaluate("navigator.clipboard.readText()")):
        page.wait_for_timeout(50)
    assert copied.split()[:5] == page.locator("[id$='-best']").inner_text().split()[:5]


def test_it_opens_what_a_link_points_to(visitor):
    page = visitor.finished(visitor.ask())
    page.locator(".strip a").nth(1).click()
    page.locator("[id$='-answering-1'] .body").wait_for()
    page.locator(".matrix tbody a").first.click()
    page.locator("[id$='-reviewing-0'] .body").wait_for()
    page.locator(".matrix tbody tr").nth(1).locator("td a").nth(2).click()
    page.locator("[id$='-reviewing-1'] .body").wait_for()


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
    # What folds fetch pushes down what is below them.
    page.locator(".calls table").nth(1).wait_for()
    page.locator(".turn:nth-child(2) summary").first.focus()
    while page.evaluate("!document.activeElement.closest('.dock')"):
        top, dock = page.evaluate(
            "[document.activeElement, document.querySelector('.dock')].map(each => each.getBoundingClientRect().top)"
        )
        assert top < dock
        page.keyboard.press("Tab")


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


def test_its_calls_are_drawn_when_somebody_opens_the_fold(visitor):
    page = visitor.finished(visitor.ask())
    fold = page.locator(".evidence details", has=page.get_by_role("heading", name="Calls"))
    fold.locator("summary").click()
    expect(fold.locator("tbody tr", has_not_text="Title")).to_have_count(7)
    assert not axe(page)
    assert not visitor.problems
