"""The one page of the composition root."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process serves. Open to everyone; says nothing else, and asks nobody else."""
    return HttpResponse("ok\n", content_type="text/plain")
