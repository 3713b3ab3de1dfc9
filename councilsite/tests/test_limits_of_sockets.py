"""How many sockets, how often opened, and how many messages: by whom, and what a page is told."""

from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group

from accounts import limits
from accounts.limits import Per, What
from accounts.models import Limit
from conversations import changes, consumers
from conversations.tests import cast, links
from councilsite import asgi
from councilsite.tests.test_limits import limit

pytestmark = pytest.mark.django_db(transaction=True)


class TestSockets:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        """The first look, which finds out whose it is, comes sooner."""
        monkeypatch.setattr(consumers, "SETTLE", 0.05)

    def page_of(self, person, conversation=None, address="192.0.2.1"):
        """The page of a conversation, with the cookie of its reader."""
        conversation = conversation or links.answered(person, cast.council(slug=person.name.lower()))
        return self.socket(f"/ws/c/{conversation.pk}/", address, cast.session_of(person))

    def socket(self, place, address, session=""):
        headers = [(b"origin", b"http://localhost"), (b"host", b"localhost")]
        headers.append((b"cookie", f"sessionid={session}".encode()))
        page = WebsocketCommunicator(asgi.application, f"{place}?after=0&revision=0", headers)
        page.scope["client"] = (address, 50_000)
        return page

    async def let_in(self, page):
        await page.connect()
        await page.receive_from(timeout=30)
        return page

    async def shown_out(self, page):
        closed = await page.receive_output(timeout=30)
        return (closed["type"], closed.get("code")) == ("websocket.close", 4429)

    async def test_who_has_too_many_open_is_shown_out_and_the_page_goes_on_by_request(self):
        bob = await sync_to_async(cast.bob)()
        await sync_to_async(limit)(What.SOCKETS, 1, None)
        first = await self.let_in(await sync_to_async(self.page_of)(bob))
        conversation = await bob.conversations.aget()
        second = await sync_to_async(self.page_of)(bob, conversation, "192.0.2.2")
        await second.connect()
        assert await self.shown_out(second)
        await first.disconnect()
        third = await self.let_in(await sync_to_async(self.page_of)(bob, conversation))
        await third.disconnect()

    async def test_nothing_is_drawn_for_who_has_too_many_open(self, monkeypatch):
        drawn = []

        def look(*given):
            drawn.append(given)
            return changes.look(*given)

        monkeypatch.setattr(consumers, "look", look)
        bob = await sync_to_async(cast.bob)()
        await sync_to_async(limit)(What.SOCKETS, 1, None)
        first = await self.let_in(await sync_to_async(self.page_of)(bob))
        second = await sync_to_async(self.page_of)(bob, await bob.conversations.aget())
        await second.connect()
        assert await self.shown_out(second)
        assert len(drawn) == 1
        await first.disconnect()

    async def test_who_opens_too_many_in_a_while_is_refused_before_one_opens(self, monkeypatch):
        monkeypatch.setitem(
            limits.DEFAULTS, What.OPENINGS, Limit(what=What.OPENINGS, per=Per.ADDRESS, amount=2, seconds=60)
        )
        place = f"/ws/c/{uuid4()}/"
        tried = [self.socket(place, "192.0.2.1") for _ in range(4)]
        assert [await each.connect() for each in tried] == [(True, None)] * 2 + [(False, consumers.TOO_MUCH)] * 2
        elsewhere = self.socket("/ws/s/no-such-link/", "192.0.2.2")
        assert await elsewhere.connect() == (True, None)
        for each in (*tried, elsewhere):
            await each.disconnect()

    async def test_a_superuser_may_decide_how_many(self):
        await sync_to_async(limit)(What.OPENINGS, 3, per=Per.ADDRESS)
        bob = await sync_to_async(cast.bob)()
        first = await self.let_in(await sync_to_async(self.page_of)(bob))  # by now it is read
        conversation = await bob.conversations.aget()
        others = [await sync_to_async(self.page_of)(bob, conversation) for _ in range(3)]
        assert [(await each.connect())[0] for each in others] == [True, True, False]
        for each in (first, *others):
            await each.disconnect()

    async def test_people_at_one_address_are_counted_together_where_that_is_decided(self):
        bob, alice = await sync_to_async(cast.bob)(), await sync_to_async(cast.alice)()
        await sync_to_async(limit)(What.SOCKETS, 1, None, per=Per.ADDRESS)
        first = await self.let_in(await sync_to_async(self.page_of)(bob))
        second = await sync_to_async(self.page_of)(alice)
        await second.connect()
        assert await self.shown_out(second)
        conversation = await alice.conversations.aget()
        elsewhere = await self.let_in(await sync_to_async(self.page_of)(alice, conversation, "192.0.2.2"))
        for each in (first, elsewhere):
            await each.disconnect()

    async def test_so_are_the_people_of_a_group(self):
        def of_a_group():
            people = cast.bob(), cast.alice()
            group = Group.objects.create(name="Team")
            group.user_set.set(people)
            limit(What.SOCKETS, 1, None, per=Per.GROUP, group=group).full_clean()
            return [self.page_of(each) for each in people]

        first, second = await sync_to_async(of_a_group)()
        await self.let_in(first)
        await second.connect()
        assert await self.shown_out(second)
        await first.disconnect()

    @pytest.mark.parametrize("per", [Per.PERSON, Per.ADDRESS])
    async def test_strangers_pages_of_links_are_counted_by_their_address(self, per):
        def link():
            links.allow_public_links()
            token = links.make(links.answered(cast.alice(), cast.council()), "anyone")
            limit(What.SOCKETS, 1, None, per=per)
            return token

        place = f"/ws/s/{await sync_to_async(link)()}/"
        pages = [self.socket(place, address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]
        for page in pages[:2]:
            await page.connect()
        # Which of them is first to look, nobody knows.
        told = [await page.receive_output(timeout=30) for page in pages[:2]]
        let_in, shown_out = sorted(told, key=lambda each: each.get("code", 0))
        assert (let_in["type"], shown_out.get("code")) == ("websocket.send", 4429)
        await self.let_in(pages[2])
        for page in (pages[told.index(let_in)], pages[2]):
            await page.disconnect()

    async def test_who_sends_too_much_is_shown_out(self):
        bob = await sync_to_async(cast.bob)()
        await sync_to_async(limit)(What.MESSAGES, 3)
        page = await self.let_in(await sync_to_async(self.page_of)(bob))
        for _ in range(4):
            await page.send_to(text_data="{}")
        assert await self.shown_out(page)

    async def are_counted_together(self, first, second):
        """Where three messages are allowed, the second page's first is one too many after three of the first's."""
        for _ in range(3):
            await first.send_to(text_data="{}")
        assert await first.receive_nothing(0.2)
        await second.send_to(text_data="{}")
        assert await self.shown_out(second)
        await first.disconnect()

    async def test_it_is_no_use_to_send_from_several_pages(self):
        bob = await sync_to_async(cast.bob)()
        await sync_to_async(limit)(What.MESSAGES, 3)
        first = await self.let_in(await sync_to_async(self.page_of)(bob))
        second = await self.let_in(await sync_to_async(self.page_of)(bob, await bob.conversations.aget()))
        await self.are_counted_together(first, second)

    async def test_messages_from_one_address_are_counted_together_where_that_is_decided(self):
        bob, alice = await sync_to_async(cast.bob)(), await sync_to_async(cast.alice)()
        await sync_to_async(limit)(What.MESSAGES, 3, per=Per.ADDRESS)
        first, second = [await self.let_in(await sync_to_async(self.page_of)(each)) for each in (bob, alice)]
        await self.are_counted_together(first, second)
