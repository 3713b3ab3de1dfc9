"""The one answer of the composition root: whether the process serves."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

Respond = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


@sync_and_async_middleware
def healthz(get_response: Respond) -> Respond:
    """Middleware that answers /healthz before all others: whoever probes knows neither the site's name nor its scheme.

    Open to everyone; says nothing but that the process serves, and asks nobody else.
    """
    if iscoroutinefunction(get_response):

        async def respond(request: HttpRequest) -> HttpResponse:
            return _ok() if request.path == "/healthz" else await get_response(request)

    else:

        def respond(request: HttpRequest) -> HttpResponse:
            return _ok() if request.path == "/healthz" else get_response(request)

    return respond


def _ok() -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain", headers={"Cache-Control": "no-store"})
