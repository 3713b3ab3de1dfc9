"""A real browser whose page loses its socket, its server, its place in front, or its life in the cache."""

import os
import signal
import time

import pytest
from playwright.sync_api import sync_playwright

from conversations.tests import dom
from faults.site import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.browser, pytest.mark.timeout(300)]

PERSISTED = "addEventListener('pageshow', (event) => { window.persisted = event.persisted; })"
HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  Object.defineProperty(document, "visibilityState", { value: hidden ? "hidden" : "visible", configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def browser(chromium_options):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_options, ignore_default_args=["--disable-back-forward-cache"])
        yield browser
        browser.close()


@pytest.fixture
def tab(scene, browser):
    """The page of a question that was just asked."""
    scene.slowly(4)  # a busy machine takes seconds to load a page, and the tests want it to be still written
    asked = scene.asked()
    context = browser.new_context(base_url=scene.site.address)
    context.set_default_timeout(60_000)
    context.add_cookies([{"name": "sessionid", "value": asked.person.session, "url": scene.site.address}])
    context.add_init_script(PERSISTED)
    page = context.new_page()
    page.goto(asked.place)
    page.asked = asked
    yield page
    # It ends as the same page, loaded now.
    page.locator(".turn:not(.unfinished)").wait_for()
    other = context.new_page()
    other.goto(asked.place)
    wait_until(lambda: not _differences(page, other), seconds=20, words=lambda: str(_differences(page, other)))
    context.close()


def _differences(page, other) -> list[str]:
    return dom.differences(*(dom.parse(each.evaluate(dom.TREE, "#turns")).plain() for each in (page, other)))


def writing(page) -> None:
    page.locator(".card.growing .body > div > *").first.wait_for()


def test_its_web_server_is_started_again(scene, tab):
    writing(tab)
    scene.site.web.kill()
    scene.site.web.ends()
    scene.site.begin()


@pytest.mark.faults
def test_its_socket_is_cut_again_and_again(scene, tab):
    writing(tab)
    for _ in range(4):
        scene.site.browsers.cut()
        tab.wait_for_timeout(400)


@pytest.mark.faults
def test_its_line_is_dead_for_a_while(scene, tab):
    writing(tab)
    scene.site.browsers.hole()
    time.sleep(5)
    scene.site.browsers.cut()
    scene.site.browsers.mend()


@pytest.mark.faults
def test_without_valkey_it_goes_on_by_looking(scene, tab):
    writing(tab)
    for each in scene.site.parts:
        each.redis.refuse()


@pytest.mark.faults
def test_it_is_hidden_until_after_the_end(scene, tab):
    writing(tab)
    tab.evaluate(HIDDEN, True)
    tab.asked.ends()
    tab.evaluate(HIDDEN, False)


@pytest.mark.faults
def test_it_is_frozen_until_after_the_end(scene, tab, browser):
    """As browsers freeze what lies in the background, and machines that sleep all there is."""
    writing(tab)
    told = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [each["id"] for each in told if each["type"] == "renderer"]
    for each in pages:
        os.kill(each, signal.SIGSTOP)
    try:
        tab.asked.ends()
    finally:
        for each in pages:
            os.kill(each, signal.SIGCONT)


@pytest.mark.faults
def test_it_comes_back_from_the_back_forward_cache(scene, tab):
    """Chromium keeps no page there that says `no-store`, as others may; so it does not hear of that here."""

    def without_no_store(route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "cache-control": "private"})

    scene.slowly(40)  # the next stage: they still write when it has been loaded a second time, by a busy machine too
    tab.route(f"**{tab.asked.place}", without_no_store)
    tab.reload()
    tab.unroute_all()
    writing(tab)
    tab.goto("/history/")
    scene.slowly(1)
    tab.asked.ends()
    tab.go_back(wait_until="commit")  # nothing is loaded
    assert tab.evaluate("window.persisted")
    tab.locator("#live").wait_for(state="attached")
