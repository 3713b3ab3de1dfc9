"""What an administrator decides for the whole site, in the admin."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext

from accounts.models import SiteSettings

if TYPE_CHECKING:
    OneRowAdmin = admin.ModelAdmin[SiteSettings]
else:
    OneRowAdmin = admin.ModelAdmin


@admin.register(SiteSettings)
class SiteSettingsAdmin(OneRowAdmin):
    """The one row: its list is its form."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002  # the signature is the framework's
        """Straight to the form."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        SiteSettings.objects.get_or_create(pk=1)
        return redirect("admin:accounts_sitesettings_change", 1)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Under the name that leads here."""
        named = {"title": gettext("Site settings"), "subtitle": None}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | named)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002  # the signature is the framework's
        """It is there already."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: SiteSettings | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """It stays."""
        return False
