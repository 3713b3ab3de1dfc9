"""The rules for calls in the admin."""

# ruff: noqa: ARG002  # Django's signatures

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy

from council.models import CallPolicy


@admin.register(CallPolicy)
class CallPolicyAdmin(admin.ModelAdmin):
    """The one row: its list is its form."""

    fieldsets = (
        (
            gettext_lazy("When a call fails"),
            {
                "fields": ("attempts", "longest_wait_seconds", "repeat_after_timeout", "connect_seconds"),
                "description": gettext_lazy(
                    "These hold for every call to every provider, from the next call on. How long a model may think "
                    "and write is set with each model, under Patience. Once a part of an answer has come, a call is "
                    "never repeated: what came is kept and marked as cut off."
                ),
            },
        ),
        (
            gettext_lazy("When a model is left alone"),
            {
                "fields": ("breaker_failures", "breaker_percent", "breaker_least_calls", "breaker_open_seconds"),
                "description": gettext_lazy(
                    "A model that fails again and again is not asked for a while, so that nobody waits for it in vain. "
                    "A wrong key, missing credit, a rejected request, a refusal and a content filter do not count. "
                    "Breakers, in the list of the council, shows which models are left alone just now."
                ),
            },
        ),
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Straight to the form."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        CallPolicy.objects.get_or_create(pk=1)
        return redirect("admin:council_callpolicy_change", 1)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """It is there already."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: CallPolicy | None = None) -> bool:
        """It stays."""
        return False
