"""The page of a conversation that loses its socket and asks by request meanwhile: what comes twice, and what never."""

import pytest

from conversations.tests.visitor import SLOWLY, same

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_turn_that_comes_twice_is_shown_once(visitor):
    page = visitor.finished(visitor.ask())
    second = visitor.open()
    came = []

    def repeat(socket) -> None:
        def say(message: str) -> None:
            new = "beforeend" in message
            came.append(new)
            for _ in range(1 + new):
                socket.send(message)

        socket.connect_to_server().on_message(say)

    second.route_web_socket("**/ws/**", repeat)
    second.goto(page.url)
    visitor.ask("And in six months?", page)
    for each in (page, second):
        visitor.finished(each, turns=2)
    assert any(came)
    same(page, second)


def test_who_was_away_over_a_follow_up_has_it_once(visitor):
    """The next socket asks from where the last one ended; by then a request has brought what came."""
    page = visitor.finished(visitor.ask())
    context = visitor.look()
    away = visitor.open(context)
    away.goto(page.url)
    context.set_offline(offline=True)
    away.evaluate("document.querySelector('#live')._htmx.ws.connection.socket.close(1000)")
    away.wait_for_timeout(4000)  # until it waits for some seconds before it tries again
    visitor.ask("And in six months?", page)
    with away.expect_websocket() as again:
        context.set_offline(offline=False)
        away.locator(".turn:nth-child(2)").wait_for()
    again.value.wait_for_event("framereceived")
    for each in (page, away):
        visitor.finished(each, turns=2)
    same(page, away)
    visitor.problems.clear()  # the console reports what was asked for offline


def test_it_looks_once_at_a_time_and_gives_up_a_look_that_is_never_answered(site, visitor):
    site.provider.script({"kind": "answer"}, times=3, tokens_per_second=30, tokens=200)
    page, asked = visitor.page, []

    def hold(route) -> None:
        asked.append(route)
        if asked[1:]:
            route.continue_()

    page.route_web_socket("**/ws/**", lambda _socket: None)
    page.route("**/changes/**", hold)
    visitor.ask()
    page.locator(".turn.unfinished").wait_for()
    page.wait_for_timeout(16_000)  # a page that hears nothing begins to look after nine seconds, and looks every three
    assert len(asked) == 1
    page.locator(".turn:not(.unfinished)").wait_for(timeout=4 * SLOWLY)
    asked[0].abort()
