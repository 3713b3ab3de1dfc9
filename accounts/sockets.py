"""The sockets of a person's open pages, of whatever kind: who ends somebody's right to them says so here.

This only tells them to look again; each consumer asks for itself whether its person may still see what it shows.
"""

import asyncio
import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger(__name__)

LAYER_SECONDS = 0.5  # for a message to the channel layer


def group_of(person_id: int) -> str:
    """The channel group of every socket that this person has open."""
    return f"person.{person_id}"


def show_out(person_id: int) -> None:
    """Have this person's sockets ask again for their right, as soon as the transaction under way is committed.

    A layer that is down loses it: then each finds out before it says anything new, and within half a minute.
    """
    transaction.on_commit(lambda: async_to_sync(_tell)(person_id))


async def _tell(person_id: int) -> None:
    layer: Any = get_channel_layer()
    try:
        async with asyncio.timeout(LAYER_SECONDS):
            await layer.group_send(group_of(person_id), {"type": "access_changed"})
    except Exception as error:  # noqa: BLE001  # whatever the layer's client raises, the session has ended all the same
        logger.warning("The channel layer takes no messages (%s); open pages find out by themselves", error)
