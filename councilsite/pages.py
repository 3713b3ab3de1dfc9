"""Django's ASGI handler for a site whose pages are all synchronous."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.db import close_old_connections, connection, reset_queries

from council.threads import forget_a_dead_connection
from councilsite.turns import MOST

# Threads that stay, each with its connection: a new one for each request, and a connection fetched and examined, take a
# millisecond, and the database's end of a connection that was used just now is quicker.
_threads = ThreadPoolExecutor(MOST, "pages")


class Pages(ASGIHandler):
    """Runs middleware and view in one go, in the request's thread.

    Django's own goes back to the event loop between them, and once more for each middleware that looks at the view: as
    many waits for a loop that is busy with live pages.
    """

    def __init__(self) -> None:
        BaseHandler.__init__(self)  # without the asynchronous chain
        self.load_middleware(is_async=False)
        # A connection is looked at where it is used, and nobody counts queries; but to call these would be a way to a
        # thread and back.
        for receiver in (reset_queries, close_old_connections):
            request_started.disconnect(receiver)

    async def get_response_async(self, request: Any) -> Any:
        """What the synchronous chain answers."""
        return await sync_to_async(self._answer, thread_sensitive=False, executor=_threads)(request)

    def _answer(self, request: Any) -> Any:
        forget_a_dead_connection()
        try:
            return self.get_response(request)
        finally:
            if connection.errors_occurred:
                connection.close()
