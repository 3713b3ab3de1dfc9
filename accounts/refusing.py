"""What whoever is refused is told over HTTP, and the trail of it; how a view gets a limit."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django_htmx.http import trigger_client_event

from accounts import limits
from governance import audit
from governance.audit import Kind, Thing

View = Callable[..., HttpResponseBase]


def count_refused(request: HttpRequest) -> None:
    """Count that a page was refused: whoever has signed in may try as often as they like."""
    if request.user.is_authenticated:
        route = request.resolver_match.route if request.resolver_match else ""
        audit.count(Kind.REFUSED, Thing("page", route[:64]))


def too_often(request: HttpRequest, reached: limits.Reached) -> HttpResponse:
    """When to come back. Counted, for it may be asked for at will."""
    audit.count(Kind.REFUSED, Thing("limit", reached.what))
    if request.htmx:  # type: ignore[attr-defined]  # of django-htmx's middleware
        told = {"text": str(reached), "tone": "warn"}
        response = trigger_client_event(HttpResponse(status=HTTPStatus.TOO_MANY_REQUESTS), "toast", told)
    else:
        response = render(request, "429.html", {"reached": str(reached)}, status=HTTPStatus.TOO_MANY_REQUESTS)
    if reached.seconds:
        response["Retry-After"] = str(reached.seconds)
    return response


def much_too_often(request: HttpRequest) -> HttpResponse:
    """The same for allauth's own limits, each of which is for a minute. Allauth knows it by the name `handler429`."""
    return too_often(request, limits.Reached("allauth", limits.MINUTE))


def with_time(get_response: View) -> View:
    """Where a form of allauth's shows that one of its limits is reached, the answer says so as well, and until when."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        reached = getattr(request, "limit_reached", None)
        if reached and not response.has_header("Location"):
            response.status_code = HTTPStatus.TOO_MANY_REQUESTS
            response["Retry-After"] = str(reached.seconds)
        return response

    return respond


def sparingly(method: str) -> Callable[[View], View]:
    """Around views whose acts the audit trail tells one by one: nobody does so as often as they like."""

    def around(view: View) -> View:
        @wraps(view)
        def spared(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method == method:
                try:
                    limits.take(limits.What.ACTS, request.user)
                except limits.Reached as reached:
                    return too_often(request, reached)
            return view(request, *args, **kwargs)

        return spared

    return around
