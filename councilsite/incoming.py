"""What stands before pages and sockets alike: an id for each, by which its lines in the log are found.

A socket that ends by a fault is closed here, and that is told here, in one line where the fault is not the site's own:
the page goes on by looking.
"""

import contextlib
import logging
import secrets
from time import monotonic
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from prometheus_client import Gauge
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

FAULT = 1011  # the code of a socket that the server could not go on with
SELDOM = 60.0  # seconds between two lines about the same thing that is away

sockets = Gauge("council_sockets", "Sockets of pages that are open in this process.")

_told: dict[str, float] = {}


def identified(application: Any) -> Any:
    """The ASGI application; what is logged for a request or a socket names it, and the response has the name too."""

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        request = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request=request)

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request.encode())]}
            await send(message)

        if scope["type"] == "websocket":
            await _carry(application, scope, receive, send)
        else:
            await application(scope, receive, send_with_id)

    return respond


async def _carry(application: Any, scope: Any, receive: Any, send: Any) -> None:
    with sockets.track_inprogress():
        try:
            await application(scope, receive, send)
        except (OperationalError, InterfaceError) as error:
            _tell_seldom("database", error)
        except (RedisError, OSError) as error:
            _tell_seldom("channel layer", error)
        except Exception:
            logger.exception("A socket ended by a fault")
        else:
            return
        with contextlib.suppress(Exception):  # it may be gone already
            await send({"type": "websocket.close", "code": FAULT})


def _tell_seldom(what: str, error: Exception) -> None:
    last = _told.get(what)
    if last is None or monotonic() - last >= SELDOM:
        _told[what] = monotonic()
        logger.warning("The %s is away (%s): sockets are closed, and pages look for themselves", what, error)
