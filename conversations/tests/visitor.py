"""Somebody who has signed in at a browser, and a council that stays at work while they look."""

import uuid
from importlib.resources import files

from playwright.sync_api import expect

from accounts.models import User
from conversations.tests import cast, dom

SLOWLY = 15_000
"""Milliseconds that a busy machine may take for anything; no test asks how long it was."""

expect.set_options(timeout=SLOWLY)


class Visitor:
    """Someone new who has signed in, at a browser of their own. `problems` is what the console complained of."""

    def __init__(self, site, browser, **options) -> None:
        self.url = site.url
        self.user = User.objects.create_user(f"{uuid.uuid4().hex}@example.org", None, name="Alice")
        self.browser = browser
        self.session = cast.session_of(self.user)
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


def busy(site, tokens_per_second: float = 30, kind: str = "answer") -> None:
    """The next three answers, or what else is asked for, take longer than any test."""
    site.provider.script({"kind": kind}, times=3, tokens_per_second=tokens_per_second, tokens=3500)


def same(mine, other, selector: str = "#turns") -> None:
    """This part of two pages is the same, but for what was opened and what only ticks."""
    one, two = (dom.parse(page.evaluate(dom.TREE, selector)).plain() for page in (mine, other))
    assert not dom.differences(one, two)


def axe(page) -> list[str]:
    """What axe objects to on the page as it is."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    # Where each thing is that passes takes it longer than to look, and nobody asks.
    options = {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
        "resultTypes": ["violations"],
    }
    found = page.evaluate("async options => (await axe.run(document, options)).violations", options)
    return [f"{each['id']}: {node['html'][:160]} {node['any'][:1]}" for each in found for node in each["nodes"]]
