"""A model of one row, in the admin."""

# ruff: noqa: ARG002  # Django's signatures

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Model]
else:
    ModelAdmin = admin.ModelAdmin


class OneRow(ModelAdmin):
    """The one row: its list is its form."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Straight to the form."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        self.model._default_manager.get_or_create(pk=1)
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", 1)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """It is there already."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """It stays."""
        return False
