"""What an administrator decides for the whole site, in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from accounts.admin.one_row import OneRow
from accounts.admin.people import is_superuser
from accounts.models import SiteSettings


@admin.register(SiteSettings)
class SiteSettingsAdmin(OneRow):
    """Under the name that leads here."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ARG002  # Django's signature
        """Who may do without a second factor is no administrator's own decision."""
        return () if is_superuser(request) else ("factor_grace_days",)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form."""
        named = {"title": gettext("Site settings"), "subtitle": None}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | named)
