"""What the composition root adds to all answers, and two of its own: it serves; somebody may not see a page."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers
from django.views.defaults import permission_denied

from governance import audit
from governance.audit import Kind, Thing

Respond = Callable[[HttpRequest], HttpResponse]


def healthz(get_response: Respond) -> Respond:
    """Middleware that answers /healthz before all others: whoever probes knows neither the site's name nor its scheme.

    Open to everyone; says nothing but that the process serves, and asks nobody else.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path == "/healthz":
            return HttpResponse("ok\n", content_type="text/plain", headers={"Cache-Control": "no-store"})
        return get_response(request)

    return respond


def unstored(get_response: Respond) -> Respond:
    """No page is kept by a browser or on the way, unless it says itself for how long."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "Cache-Control" not in response.headers:
            add_never_cache_headers(response)
        return response

    return respond


def refused(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page that says so. Counted, for whoever has signed in may try as often as they like."""
    if request.user.is_authenticated:
        route = request.resolver_match.route if request.resolver_match else ""
        audit.count(Kind.REFUSED, Thing("page", route[:64]))
    return permission_denied(request, exception)
