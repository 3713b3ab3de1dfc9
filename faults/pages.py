"""A person who asks and watches: a page that was loaded, its socket, and what htmx would make of what comes.

It does what static/js/conversation.js does, and in tenths of a second where that waits for seconds: after a break it
opens the socket again, which asks from where the last one ended; while nothing comes by it, it asks by request; and a
turn that comes again takes the place of the one that is there. What it leaves out is what readers see of that, and how
a page comes back to life: test_browser.py has a real one.
"""

import asyncio
import contextlib
import json
import secrets
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import aiohttp
import httpx

from conversations.tests import dom
from faults.site import PATIENCE, Site, wait_until

PURPOSES = {"answering": "answer", "reviewing": "review", "synthesising": "synthesis"}
"""What calls are for, by the stages that buttons name."""

AGAIN = 0.1
"""Seconds between two tries to open the socket."""
MUTE = 6.0
"""Seconds after which a page takes a socket that is open for lost: the site speaks oftener."""
CLOSING = aiohttp.ClientWSTimeout(ws_close=0.5)  # type: ignore[call-arg]  # attrs, which this reads not
"""Seconds that it waits for the other side to close it too."""
GONE, TOO_LONG = 4404, 4413


class Refused(Exception):
    """The site did not take a question; the message has its answer."""


class Person:
    """Someone who has signed in, at a browser without JavaScript."""

    def __init__(self, site: Site, session: str) -> None:
        self.site = site
        self.token = secrets.token_hex(16)
        self.session = session
        self.http = httpx.Client(
            base_url=site.address,
            cookies={"sessionid": session, "csrftoken": self.token},
            timeout=PATIENCE,
            trust_env=False,
        )

    def post(self, place: str, **form: str) -> httpx.Response:
        """Send a form."""
        return self.http.post(place, data={"csrfmiddlewaretoken": self.token, **form})

    def insist(self, place: str, **form: str) -> httpx.Response:
        """The same, and where no answer comes, or only that the site is in trouble, send it again, as people do."""
        last = "no answer"

        def answered() -> httpx.Response | None:
            nonlocal last
            try:
                response = self.post(place, **form)
            except httpx.TransportError as error:
                last = repr(error)
                return None
            last = f"{response.status_code} {response.text[:3000]}"
            return response if response.status_code < 500 else None

        return wait_until(answered, words=lambda: last)

    def ask(self, question: str = "", place: str = "/", request_id: str = "") -> str:
        """Ask, and insist on it; the address of the conversation. Raises Refused."""
        question = question or f"Question {secrets.token_hex(6)}: what now?"
        form = {"question": question, "council": "bench", "request_id": request_id or str(uuid.uuid4())}
        response = self.insist(place, **form)
        if response.status_code != httpx.codes.FOUND:
            raise Refused(f"{response.status_code} {response.text[:3000]}")
        return response.headers["location"]

    def open(self, place: str) -> "Page":
        """Load a conversation's page and watch it."""
        return Page(self, place)

    def reload(self, place: str) -> str:
        """The page as it is now; a server that is just starting is asked again."""

        def loaded() -> str | None:
            with contextlib.suppress(httpx.TransportError):
                response = self.http.get(place)
                if response.status_code == httpx.codes.OK:
                    return response.text
                assert response.status_code >= 500, f"{place}: {response.status_code}"
            return None

        return wait_until(loaded)


class Page:
    """A page of a conversation that is kept open. `root` is its document, `known` what it has."""

    def __init__(self, person: Person, place: str) -> None:
        self.person, self.place, self.site = person, place, person.site
        self.root = dom.parse(person.reload(place))
        live = self.root.get("live").attributes
        self.known: dict[str, Any] = {
            "after": int(live["data-after"] or 0),
            "revision": int(live["data-revision"] or 0),
        }
        self.unfinished = "data-unfinished" in self.root.get("work").attributes
        self.tried_again: list[tuple[Any, str, int | None, int]] = []
        """Deliberation, purpose and seat of what was tried again from here, and the attempt up to which it was not."""
        self.messages = 0
        self.gone = self.polls = False
        self.connections = 0
        self._watching: Future[None] = asyncio.run_coroutine_threadsafe(self._watch(), self.site.loop.loop)

    def close(self) -> None:
        """Close the tab. Raises what went wrong while it watched."""
        self._watching.cancel()
        with contextlib.suppress(CancelledError):
            self._watching.result()

    def shows(self, text: str) -> bool:
        """Whether the reader could find it."""
        return text in self.root.get("turns").text()

    def until(self, condition: Callable[["Page"], Any]) -> None:
        """Wait until it is so, looking at the page."""
        wait_until(lambda: condition(self), words=lambda: self.root.get("turns").text()[:4000])

    def ends(self) -> dict[str, Any]:
        """Wait until the page says that its last deliberation is over; the deliberation."""
        self.until(lambda page: not page.unfinished)
        return self.deliberation()

    def offered(self) -> set[str]:
        """The slots that it has buttons for, to have them tried again."""
        buttons = [each for each in _all(self.root.get("turns")) if each.attributes.get("form") == "retry"]
        return {each.attributes["value"] or "" for each in buttons}

    def try_again(self, slot: str) -> None:
        """Press the button of a slot, and wait until the page shows that it is being tried again."""
        response = self.press(slot)
        assert response.status_code == httpx.codes.FOUND, response.text[:3000]
        self.tries(slot)

    def press(self, slot: str) -> httpx.Response:
        """Press the button of a slot, whatever comes of it."""
        assert slot in self.offered(), f"{slot} is not offered: {self.offered()}"
        return self.person.post(f"{self.place}retry/", slot=slot)

    def tries(self, slot: str) -> None:
        """Keep that the slot is tried again from here, and wait until the page shows it."""
        found = self.deliberation()
        stage, _, seat = slot.partition(":")
        at = None if stage == "synthesising" else int(seat)
        self.tried_again.append((found["id"], PURPOSES[stage], at, found["retry"]["attempt"]))
        self.catches_up()

    def catches_up(self) -> None:
        """Wait until it shows what has happened by now."""
        revision = self.deliberation()["revision"]
        self.until(lambda page: page.known["revision"] >= revision)

    def deliberation(self) -> dict[str, Any]:
        """The last one of the conversation, as the database has it."""
        return self.site.rows(
            "SELECT deliberation.* FROM council_deliberation deliberation JOIN conversations_turn turn"
            " ON turn.deliberation_id = deliberation.id WHERE turn.conversation_id = %s ORDER BY turn.id DESC LIMIT 1",
            self.conversation,
        )[0]

    @property
    def conversation(self) -> str:
        """Its key."""
        return self.place.strip("/").rpartition("/")[2]

    def differences(self) -> list[str]:
        """Where it differs from the same page, loaded now."""
        other = dom.parse(self.person.reload(self.place))
        return [
            each
            for part in ("title", "turns", "work")
            for each in dom.differences(self.root.get(part).plain(), other.get(part).plain())
        ]

    async def _watch(self) -> None:
        cookies = {"sessionid": self.person.session}
        async with aiohttp.ClientSession(self.site.address, cookies=cookies) as client:
            ended = self.known
            while not self.gone:
                heard = self.messages
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    if not self.polls:
                        await self._listen(client, ended)
                ended = self.known
                if heard == self.messages:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        await self._poll(client)
                await asyncio.sleep(AGAIN)

    async def _listen(self, client: aiohttp.ClientSession, known: dict[str, Any]) -> None:
        place = f"/ws{self.place}?after={known['after']}&revision={known['revision']}"
        async with client.ws_connect(place, origin=self.site.address, max_msg_size=0, timeout=CLOSING) as connection:
            self.connections += 1
            while True:
                try:
                    each = await connection.receive(MUTE)
                except TimeoutError:  # it is open, and nothing comes through
                    break
                if each.type is not aiohttp.WSMsgType.TEXT:
                    break
                self._take(json.loads(each.data))
            self.gone = connection.close_code == GONE
            self.polls = connection.close_code == TOO_LONG  # for good: the site asks for no other socket

    async def _poll(self, client: aiohttp.ClientSession) -> None:
        place = f"{self.place}changes/?after={self.known['after']}&revision={self.known['revision']}"
        async with client.get(place) as response:
            if response.status != httpx.codes.OK:
                return
            changes = await response.json()
        if (changes["after"], changes["revision"]) >= (self.known["after"], self.known["revision"]):
            self._take(changes)

    def _take(self, message: dict[str, Any]) -> None:
        self.messages += 1
        if message.get("content"):
            dom.apply(self.root, message["content"])
        self.known = {"after": message["after"], "revision": message["revision"]}
        self.unfinished = message["unfinished"]


def _all(node: dom.Node) -> Iterator[dom.Node]:
    """The elements inside it."""
    for each in node.children:
        if isinstance(each, dom.Node):
            yield each
            yield from _all(each)
