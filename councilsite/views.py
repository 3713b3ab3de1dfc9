"""The one answer of the composition root: whether the process serves."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

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
