"""What viewers are told, and a channel layer that does not take it."""

import asyncio
from uuid import uuid4

from asgiref.sync import async_to_sync

from conversations import viewers


class Hanging:
    """A channel layer that takes a message and never answers."""

    asked = 0

    async def group_send(self, _group, _message):
        self.asked += 1
        await asyncio.Event().wait()


def test_a_channel_layer_that_hangs_is_left_alone_for_a_while(monkeypatch, caplog):
    layer = Hanging()
    monkeypatch.setattr(viewers, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(viewers, "_outage", viewers._Outage())
    monkeypatch.setattr(viewers, "LAYER_SECONDS", 0.01)

    async def tell_thrice():
        for _ in range(3):
            await viewers.tell(uuid4(), {"type": "changed"})

    async_to_sync(tell_thrice)()
    assert layer.asked == 1
    assert [each.message for each in caplog.records] == ["The channel layer does not answer; pages look for themselves"]
