"""All who look at a conversation just now, by themselves or through a link, and what they are told."""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

# Seconds.
LAYER_SECONDS = 0.5  # for a message to the channel layer
LAYER_PAUSE = 5.0  # after one that took longer


def group_of(conversation_id: UUID) -> str:
    """The channel group of everyone who looks at a conversation."""
    return f"conversation.{conversation_id.hex}"


LINKS = "links"
"""The channel group of everyone who looks through any link."""


def group_of_link(digest: str) -> str:
    """The channel group of everyone who looks through one link."""
    return f"link.{digest}"


@dataclass(slots=True)
class _Outage:
    """Until when the channel layer is taken to be away. That is said once, and not for each frame."""

    begun: bool = False
    until: float = 0.0


_outage = _Outage()


async def tell(conversation_id: UUID, message: dict[str, Any]) -> None:
    """Send to all viewers of a conversation."""
    await tell_group(group_of(conversation_id), message)


async def tell_group(group: str, message: dict[str, Any]) -> None:
    """Send to a group. A layer that is down loses it: the rows hold the truth, and viewers look there too.

    One that hangs is left alone for a while: what is recorded must not wait for it.
    """
    if monotonic() < _outage.until:
        return
    try:
        layer: Any = get_channel_layer()
        async with asyncio.timeout(LAYER_SECONDS):
            await layer.group_send(group, message)
        _outage.begun = False
    except TimeoutError:
        _outage.until = monotonic() + LAYER_PAUSE
        if not _outage.begun:
            logger.warning("The channel layer does not answer; pages look for themselves")
        _outage.begun = True
    except Exception as error:  # noqa: BLE001  # whatever the layer's client raises, a deliberation goes on without it
        if not _outage.begun:
            logger.warning("The channel layer takes no messages (%s); pages look for themselves", error)
        _outage.begun = True
