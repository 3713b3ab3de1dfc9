"""What the composition root adds to all answers, and its own: a page is refused; there is none."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers
from django.views.defaults import page_not_found, permission_denied

from accounts.refusing import count_refused

Respond = Callable[[HttpRequest], HttpResponse]


def unstored(get_response: Respond) -> Respond:
    """No page is kept by a browser or on the way, unless it says itself for how long."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "Cache-Control" not in response.headers:
            add_never_cache_headers(response)
        return response

    return respond


def refused(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page that says so."""
    count_refused(request)
    return permission_denied(request, exception)


def not_there(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The page that says so: the same, as long on its way, and as much counted where something is somebody else's.

    An address that no view has is nobody's, and is not counted.
    """
    if request.resolver_match:
        count_refused(request)
    return page_not_found(request, exception)
