"""Who hears what over a conversation's socket, through all that stands before it."""

import asyncio
import json
import re
from unittest.mock import ANY

import pytest
from allauth.usersessions.models import UserSession
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.core import mail
from django.db import OperationalError
from django.test import Client

from accounts.tests import cast as people
from conversations import asking, changes, consumers, deleting, viewers
from conversations.models import Conversation
from conversations.tests import cast
from council.models import Deliberation
from councilsite import asgi
from councilsite.layers import MemoryLayer

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30  # seconds
KINDS = ("renewed", "changed", "frame", None)


@pytest.fixture
def conversation():
    """Alice's, whose one question is answered."""
    turn = asking.ask(cast.alice(), "What now?", cast.council())
    Deliberation.objects.update(status="complete", revision=3)
    return turn.conversation


def page_of(person) -> Client:
    client = Client()
    if person:
        client.force_login(person)
    return client


def socket(conversation, client: Client, query: str = "after=0&revision=0") -> WebsocketCommunicator:
    cookies = "; ".join(f"{name}={each.value}" for name, each in client.cookies.items())
    headers = [(b"origin", b"http://localhost"), (b"host", b"localhost"), (b"cookie", cookies.encode())]
    return WebsocketCommunicator(asgi.application, f"/ws/c/{conversation.pk}/?{query}", headers=headers)


def message(kind: str, conversation) -> dict:
    deliberation = Deliberation.objects.get(scope=conversation.pk)
    known = {"deliberation": deliberation.pk.hex, "revision": 9, "changed": 0, "base": 0, "checkpoint": 0}
    drawn = {"html": "Secret", "before": 0, "had": "", "stage": "", "unfinished": True}
    return {"type": kind, "title": "Secret", "full": "Secret", "tail": "Secret", **known, **drawn}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["a colleague", "an administrator", "nobody", "the owner of a deleted one"])
async def test_whoever_may_not_see_it_hears_nothing_and_is_shown_out(conversation, kind, who, caplog):
    caplog.set_level("INFO")

    def arrive():
        if who.startswith("the owner"):
            deleting.delete(conversation)
            return page_of(conversation.owner)
        if who == "nobody":
            return page_of(None)
        bob = cast.bob()
        bob.is_staff = bob.is_superuser = who == "an administrator"
        bob.save()
        return page_of(bob)

    stranger = socket(conversation, await sync_to_async(arrive)())
    assert (await stranger.connect(PATIENCE))[0]
    if kind:
        said = await sync_to_async(message)(kind, conversation)
        for _ in range(3):
            await viewers.tell(conversation.pk, said)
    assert await stranger.receive_output(PATIENCE) == {"type": "websocket.close", "code": consumers.NOT_FOUND}
    assert await stranger.receive_nothing(0.1)
    assert caplog.messages.count("The socket of a conversation was refused") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_its_owner_hears_what_is_there(conversation, kind):
    owner = socket(conversation, await sync_to_async(page_of)(conversation.owner))
    assert (await owner.connect(PATIENCE))[0]
    if kind:
        await viewers.tell(conversation.pk, await sync_to_async(message)(kind, conversation))
    told = json.loads(await owner.receive_from(PATIENCE))
    assert "What now?" in told["content"]
    assert (told["revision"], told["unfinished"]) == (3, False)
    await owner.disconnect()


async def test_a_page_that_waits_is_told_that_its_socket_lives(conversation, monkeypatch):
    for name in ("SETTLE", "LOOK", "QUIET"):
        monkeypatch.setattr(consumers, name, 0.1)
    await sync_to_async(Deliberation.objects.update)(status="running")
    owner = socket(conversation, await sync_to_async(page_of)(conversation.owner))
    assert (await owner.connect(PATIENCE))[0]
    await _says(owner, "What now?")
    assert json.loads(await owner.receive_from(PATIENCE)) == {"after": ANY, "revision": 3, "unfinished": True}
    await sync_to_async(Deliberation.objects.update)(status="complete", revision=4)
    while json.loads(await owner.receive_from(PATIENCE))["unfinished"]:
        pass
    assert await owner.receive_nothing(0.5)
    await owner.disconnect()


async def test_a_title_that_is_given_as_the_socket_opens_is_not_lost(conversation):
    client = await sync_to_async(page_of)(conversation.owner)
    page = await sync_to_async(client.get)(conversation.get_absolute_url())
    query = f"after={page.context['after']}&revision={page.context['revision']}"
    owner = socket(conversation, client, query)
    assert (await owner.connect(PATIENCE))[0]
    await sync_to_async(client.post)(f"{conversation.get_absolute_url()}rename/", {"title": "Another"})
    await _says(owner, "Another")
    assert (await sync_to_async(Conversation.objects.get)()).title == "Another"
    await sync_to_async(client.post)(f"{conversation.get_absolute_url()}rename/", {"title": "A third"})
    await _says(owner, "A third")
    await owner.disconnect()


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_title_that_comes_after_the_end_unheard_is_found(conversation, monkeypatch, failures):
    """Also where the database cannot be asked at the moment of that look."""

    def look(*given):
        if failing:
            raise failing.pop()
        return changes.look(*given)

    for name in ("SETTLE", "LOOK", "AFTERWARDS"):
        monkeypatch.setattr(consumers, name, 0.2)
    owner = socket(conversation, await sync_to_async(page_of)(conversation.owner))
    assert (await owner.connect(PATIENCE))[0]
    assert "What now?" in json.loads(await owner.receive_from(PATIENCE))["content"]
    failing = [OperationalError("away")] * failures
    monkeypatch.setattr(consumers, "look", look)
    await sync_to_async(Conversation.objects.update)(title="Unheard")
    await _says(owner, "Unheard")
    assert not failing
    await owner.disconnect()


async def _says(owner: WebsocketCommunicator, words: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while words not in json.loads(await owner.receive_from(PATIENCE)).get("content", ""):
            pass


@pytest.mark.parametrize("what", ["another question or title", "text that grows"])
async def test_whoever_signs_out_hears_no_more(conversation, monkeypatch, what):
    if what == "text that grows":
        monkeypatch.setattr(consumers, "RIGHT", 0.0)
        monkeypatch.setattr(consumers, "LOOK", 0.1)
        await Deliberation.objects.aupdate(status="running")
    client = await sync_to_async(page_of)(conversation.owner)
    owner = socket(conversation, client)
    assert (await owner.connect(PATIENCE))[0]
    await _says(owner, "What now?")
    await sync_to_async(client.logout)()
    if what == "text that grows":
        said = await sync_to_async(message)("frame", conversation)
        while (output := await owner.receive_output(PATIENCE))["type"] == "websocket.send":
            await viewers.tell(conversation.pk, said)
    else:
        await viewers.tell(conversation.pk, {"type": "renewed"})
        output = await owner.receive_output(PATIENCE)
    assert output == {"type": "websocket.close", "code": consumers.NOT_FOUND}


@pytest.fixture
def his():
    """Bob's conversation, at rest, so that no socket looks by itself; and two browsers in which he has signed in."""
    bob = people.bob()
    turn = asking.ask(bob, "What now?", cast.council())
    Deliberation.objects.update(status="complete", revision=3)
    browsers = Client(), Client()
    for each in browsers:
        each.post("/accounts/login/", {"login": bob.email, "password": people.PASSWORD})
    return turn.conversation, *browsers


NEW = "eight boats, no lighthouse"
ENDINGS = ("deactivated", "password changed", "password given", "password reset", "others ended", "one ended", "left")


def end(how: str, conversation, browser, other) -> None:
    """Somebody ends the session of `browser`."""
    bob = conversation.owner
    admin = Client()
    admin.force_login(people.alice())
    match how:
        case "deactivated":
            admin.post("/admin/accounts/user/", {"action": "deactivate", "_selected_action": [bob.pk]})
        case "password given":
            new = {"usable_password": "true", "password1": NEW, "password2": NEW}
            assert admin.post(f"/admin/accounts/user/{bob.pk}/password/", new).status_code == 302
        case "password changed":
            new = {"oldpassword": people.PASSWORD, "password1": NEW, "password2": NEW}
            assert other.post("/accounts/password/change/", new).status_code == 302
        case "password reset":
            Client().post("/accounts/password/reset/", {"email": bob.email})
            link = re.search(r"http://\S+", mail.outbox[0].body).group()
            reset = Client()
            page = reset.get(link, follow=True).request["PATH_INFO"]
            assert reset.post(page, {"password1": NEW, "password2": NEW}).status_code == 302
        case "others ended":
            other.post("/accounts/sessions/")
        case "one ended":
            session = UserSession.objects.get(session_key=browser.cookies["sessionid"].value)
            other.post(f"/settings/sessions/{session.pk}/end/")
        case "left":
            browser.post("/accounts/logout/")


@pytest.mark.parametrize("how", ENDINGS)
async def test_the_socket_of_a_session_that_ends_is_closed_at_once(his, how, caplog):
    caplog.set_level("INFO")
    conversation, browser, other = his
    owner = socket(conversation, browser)
    assert (await owner.connect(PATIENCE))[0]
    await _says(owner, "What now?")
    await sync_to_async(end)(how, conversation, browser, other)
    assert await owner.receive_output(PATIENCE) == {"type": "websocket.close", "code": consumers.NOT_FOUND}
    assert "was refused" not in caplog.text


@pytest.mark.parametrize("how", ["others ended", "one ended", "left"])
async def test_the_sockets_of_sessions_that_go_on_stay(his, how):
    conversation, browser, other = his
    stays = socket(conversation, other)
    assert (await stays.connect(PATIENCE))[0]
    await _says(stays, "What now?")
    await sync_to_async(end)(how, conversation, browser, other)
    await sync_to_async(other.post)(f"{conversation.get_absolute_url()}rename/", {"title": "Another"})
    await _says(stays, "Another")
    await stays.disconnect()


async def test_a_session_that_ends_while_its_socket_opens_is_found_out_too(his, monkeypatch):
    monkeypatch.setattr(consumers, "LOOK", 0.1)
    await Deliberation.objects.aupdate(status="running")
    conversation, browser, other = his
    add = MemoryLayer.group_add

    async def too_late(layer, group, channel):
        if group.startswith("person."):
            await sync_to_async(end)("deactivated", conversation, browser, other)
        await add(layer, group, channel)

    monkeypatch.setattr(MemoryLayer, "group_add", too_late)
    owner = socket(conversation, browser)
    assert (await owner.connect(PATIENCE))[0]
    await _says(owner, "What now?")
    assert await owner.receive_output(PATIENCE) == {"type": "websocket.close", "code": consumers.NOT_FOUND}


async def test_a_channel_layer_that_is_away_keeps_nobody_from_ending_a_session(his, monkeypatch, caplog):
    conversation, browser, other = his

    async def away(_layer, _group, _message):
        raise ConnectionError("no Redis")

    monkeypatch.setattr(MemoryLayer, "group_send", away)
    await sync_to_async(end)("deactivated", conversation, browser, other)
    assert (await sync_to_async(browser.get)("/settings/")).status_code == 302
    assert "find out by themselves" in caplog.text
