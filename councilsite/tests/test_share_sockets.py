"""Who hears what over the socket of a shared conversation, and what closes it, through all that stands before it."""

import json
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import SiteSettings, User
from accounts.tests import cast as people
from conversations import asking, consumers, share_consumers, sharing, viewers
from conversations.models import Share
from conversations.tests import cast
from council.models import Deliberation
from councilsite import asgi

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30  # seconds
SHOWN_OUT = {"type": "websocket.close", "code": consumers.NOT_FOUND}
AUDIENCES = ("team", "anyone", "live")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The first look comes sooner."""
    monkeypatch.setattr(consumers, "SETTLE", 0.1)


@pytest.fixture
def conversation():
    """Alice's, whose one question is answered; links for anyone are allowed."""
    SiteSettings.objects.create(pk=1, public_links=True)
    turn = asking.ask(cast.alice(), "What now?", cast.council())
    Deliberation.objects.update(status="complete", revision=3)
    return turn.conversation


def make(conversation, audience: str) -> Share:
    return sharing.save(conversation, "team" if audience == "live" else audience, None, live=audience == "live")


def socket(token: str, client: Client, query: str = "after=0&revision=0") -> WebsocketCommunicator:
    cookies = "; ".join(f"{name}={each.value}" for name, each in client.cookies.items())
    headers = [(b"origin", b"http://localhost"), (b"host", b"localhost"), (b"cookie", cookies.encode())]
    return WebsocketCommunicator(asgi.application, f"/ws/s/{token}/?{query}", headers=headers)


def browser(person) -> Client:
    client = Client()
    if person:
        client.force_login(person)
    return client


async def opened(share: Share, person=None, query: str = "after=0&revision=0") -> WebsocketCommunicator:
    """The socket of a page that has been let in."""
    page = socket(share.token, await sync_to_async(browser)(person), query)
    assert (await page.connect(PATIENCE))[0]
    return page


async def told(page: WebsocketCommunicator, words: str) -> dict:
    while words not in (said := json.loads(await page.receive_from(PATIENCE))).get("content", ""):
        pass
    return said


async def viewer(share: Share):
    """Bob where one has to sign in, else somebody unknown."""
    bob = await sync_to_async(cast.bob)()
    return None if share.audience == "anyone" else bob


async def let_in(share: Share) -> WebsocketCommunicator:
    """A page that has had its first look: a live one was shown something, and a snapshot told that its socket lives."""
    page = await opened(share, await viewer(share))
    if share.live:
        await told(page, "What now?")
    else:
        assert json.loads(await page.receive_from(PATIENCE)) == {"after": 0, "revision": 0, "unfinished": False}
    return page


@pytest.mark.parametrize("who", ["anonymous", "switched off", "never existed", "expired", "revoked", "not allowed"])
async def test_whom_a_link_does_not_open_for_hears_nothing_and_is_shown_out(conversation, who, caplog):
    caplog.set_level("INFO")

    def arrive():
        share = make(conversation, {"not allowed": "anyone", "revoked": "live"}.get(who, "team"))
        bob = cast.bob()
        client = browser(None if who == "anonymous" else bob)
        match who:
            case "switched off":
                User.objects.filter(pk=bob.pk).update(is_active=False)
            case "expired":
                Share.objects.update(expires=timezone.now())
            case "revoked":
                sharing.revoke(Share.objects.all())
            case "not allowed":
                SiteSettings.objects.update(public_links=False)
        return socket("x" * 43 if who == "never existed" else share.token, client)

    stranger = await sync_to_async(arrive)()
    assert (await stranger.connect(PATIENCE))[0]
    await viewers.tell(conversation.pk, await sync_to_async(growing)(conversation))
    assert await stranger.receive_output(PATIENCE) == SHOWN_OUT
    assert await stranger.receive_nothing(0.1)
    assert caplog.messages.count("The socket of a link was refused") == 1


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("how", ["dialog", "own list", "deletion", "administrator", "settings"])
async def test_what_ends_a_link_closes_its_open_pages(conversation, audience, how, monkeypatch):
    # By what it is told, not by what it finds out by itself.
    monkeypatch.setattr(consumers, "LOOK", 3600.0)
    monkeypatch.setattr(consumers, "RIGHT", 3600.0)
    share = await sync_to_async(make)(conversation, audience)
    page = await let_in(share)

    def end():
        owner = browser(conversation.owner)
        match how:
            case "dialog":
                return owner.post(reverse("share", args=[conversation.pk]), {"action": "revoke"})
            case "own list":
                return owner.post(reverse("revoke-links"))
            case "deletion":
                return owner.post(reverse("delete", args=[conversation.pk]))
        admin = browser(people.alice())
        if how == "administrator":
            chosen = {"action": "revoke", "_selected_action": [share.pk]}
            return admin.post(reverse("admin:conversations_share_changelist"), chosen)
        form = {"signup": "closed", "domains": "", "factor_grace_days": "7"}
        return admin.post(reverse("admin:accounts_sitesettings_change", args=[1]), form)

    assert (await sync_to_async(end)()).status_code == 302
    if how == "settings" and audience != "anyone":
        assert await page.receive_nothing(0.4)
        await page.disconnect()
    else:
        assert await page.receive_output(PATIENCE) == SHOWN_OUT


@pytest.mark.parametrize("audience", ["team", "live"])
@pytest.mark.parametrize("who", ["its owner", "its viewer"])
async def test_the_end_of_an_account_closes_open_pages_at_once(conversation, audience, who, monkeypatch):
    # By what it is told, not by what it finds out by itself.
    monkeypatch.setattr(consumers, "LOOK", 3600.0)
    monkeypatch.setattr(consumers, "RIGHT", 3600.0)
    page = await let_in(await sync_to_async(make)(conversation, audience))

    def deactivate() -> None:
        person = conversation.owner if who == "its owner" else User.objects.get(email="bob@example.org")
        chosen = {"action": "deactivate", "_selected_action": [person.pk]}
        assert browser(people.alice()).post(reverse("admin:accounts_user_changelist"), chosen).status_code == 302

    await sync_to_async(deactivate)()
    assert await page.receive_output(PATIENCE) == SHOWN_OUT


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("how", ["expiry", "its owner is switched off", "a message was lost"])
async def test_what_nobody_tells_is_found_out(conversation, audience, how, monkeypatch):
    monkeypatch.setattr(consumers, "LOOK", 0.1)
    monkeypatch.setattr(consumers, "RIGHT", 3600.0 if how == "expiry" else 0.5)
    share = await sync_to_async(make)(conversation, audience)
    page = await let_in(share)
    if how == "expiry":
        soon = timezone.now() + timedelta(seconds=1)
        await sync_to_async(sharing.save)(conversation, share.audience, soon, live=share.live)
    elif how == "its owner is switched off":
        await User.objects.filter(pk=conversation.owner_id).aupdate(is_active=False)
    elif how == "a message was lost":
        await Share.objects.aupdate(revoked=timezone.now())
    assert await page.receive_output(PATIENCE) == SHOWN_OUT


def growing(conversation) -> dict:
    deliberation = Deliberation.objects.filter(scope=conversation.pk).latest("created")
    known = {"deliberation": deliberation.pk.hex, "revision": 99, "changed": 0, "base": 0, "checkpoint": 0}
    return {"type": "frame", "full": "It grows", "tail": "It grows", **known}


def ask_more(conversation) -> None:
    client = browser(conversation.owner)
    assert client.post(conversation.get_absolute_url(), {"question": "And then?"}).status_code == 302


async def test_a_live_page_goes_along_with_its_owners(conversation):
    page = await let_in(await sync_to_async(make)(conversation, "live"))
    await sync_to_async(ask_more)(conversation)
    assert (await told(page, "And then?"))["unfinished"]
    await viewers.tell(conversation.pk, await sync_to_async(growing)(conversation))
    await told(page, "It grows")
    await page.disconnect()


@pytest.mark.parametrize("audience", ["team", "anyone"])
async def test_a_snapshot_hears_nothing_of_what_comes_later(conversation, audience):
    page = await let_in(await sync_to_async(make)(conversation, audience))
    await sync_to_async(ask_more)(conversation)
    await viewers.tell(conversation.pk, await sync_to_async(growing)(conversation))
    assert await page.receive_nothing(0.4)
    await page.disconnect()


async def test_a_link_that_becomes_a_snapshot_during_a_look_shows_nobody_out(conversation, monkeypatch):
    share = await sync_to_async(make)(conversation, "live")
    real = share_consumers.look

    def look(*given):
        until = conversation.turns.get()
        if Share.objects.filter(live=True).update(live=False, until=until):
            looked.append(real(*given))
            return looked[0]
        return real(*given)

    looked: list = []
    monkeypatch.setattr(share_consumers, "look", look)
    page = await opened(share, await viewer(share))
    await told(page, "has changed")
    assert looked == [None]
    assert await page.receive_nothing(0.4)
    await page.disconnect()


async def test_a_live_page_whose_link_becomes_a_snapshot_hears_no_more(conversation):
    page = await let_in(await sync_to_async(make)(conversation, "live"))
    await sync_to_async(make)(conversation, "team")
    await told(page, "has changed")
    assert await page.receive_nothing(0.4)
    await sync_to_async(ask_more)(conversation)
    await viewers.tell(conversation.pk, await sync_to_async(growing)(conversation))
    assert await page.receive_nothing(0.4)
    await page.disconnect()


async def test_a_page_hears_when_its_link_shows_something_else(conversation):
    share = await sync_to_async(make)(conversation, "team")
    query = urlencode({"after": 0, "revision": 0, "shows": share.shows})
    page = await opened(share, await viewer(share), query)
    await sync_to_async(sharing.update)(share)
    assert "Reload" in (await told(page, "has changed"))["content"]
    late = await opened(share, await sync_to_async(User.objects.get)(name="Bob"), query)
    await told(late, "has changed")
    for each in (page, late):
        await each.disconnect()
