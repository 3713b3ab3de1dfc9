"""What an administrator decides for the whole site, in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from accounts.admin.one_row import OneRow
from accounts.models import SiteSettings


@admin.register(SiteSettings)
class SiteSettingsAdmin(OneRow):
    """Under the name that leads here."""

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form."""
        named = {"title": gettext("Site settings"), "subtitle": None}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | named)
