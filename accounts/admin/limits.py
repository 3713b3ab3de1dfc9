"""Limits in the admin."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import limits
from accounts.models import Limit

if TYPE_CHECKING:
    LimitsAdmin = admin.ModelAdmin[Limit]
else:
    LimitsAdmin = admin.ModelAdmin


@admin.register(Limit)
class LimitAdmin(LimitsAdmin):
    """Where nothing is decided about something, the site's own limits hold; they are said above the list."""

    list_display = ("what", "amount", "in_how_long", "per", "group")
    list_filter = ("what",)
    list_select_related = ("group",)

    @admin.display(description=gettext_lazy("in"), ordering="seconds")
    def in_how_long(self, limit: Limit) -> str:
        """In words."""
        return limit.window or str(_("at the same time"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With what holds where nothing is decided."""
        decided = set(Limit.objects.values_list("what", flat=True))
        own = [each for what, each in limits.DEFAULTS.items() if what not in decided]
        return super().changelist_view(request, (extra_context or {}) | {"own_limits": own})

    def save_model(self, request: HttpRequest, obj: Limit, form: Any, change: bool) -> None:  # noqa: FBT001  # Django's
        """It holds at once here, and within seconds elsewhere."""
        super().save_model(request, obj, form, change)
        limits.forget()

    def delete_model(self, request: HttpRequest, obj: Limit) -> None:
        """The same."""
        super().delete_model(request, obj)
        limits.forget()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """The same."""
        super().delete_queryset(request, queryset)
        limits.forget()
