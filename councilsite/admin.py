"""The admin site: people sign in to it where they sign in to everything else, second factor included."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.http import HttpRequest, HttpResponse


class AdminSite(admin.AdminSite):
    """The stock admin with allauth's sign-in."""

    site_header = site_title = "LLM Council"
    index_title = "Administration"

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send whoever is not signed in to the site's sign-in; others without the right get a 403."""
        response: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return response
