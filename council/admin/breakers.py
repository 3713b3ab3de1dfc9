"""Breakers in the admin: which models are left alone just now, and why; and a way to have them asked again at once."""

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy, ngettext

from accounts.admin.read_only import ReadOnly
from council import breakers
from council.admin.parts import WordsOfProviders
from council.models import Breaker


@admin.register(Breaker)
class BreakerAdmin(WordsOfProviders, ReadOnly):
    """A row for each model that was left alone at least once."""

    list_display = ("model_name", "provider_name", "state", "opened", "until", "error")
    list_filter = ("state", "language_model__provider")
    list_select_related = ("language_model__provider",)
    search_fields = ("language_model__name", "language_model__model_id", "language_model__provider__name")
    actions = ("reset",)
    fields = ("model_name", "provider_name", "state", "opened", "until", "since", "error")

    def has_reset_permission(self, request: HttpRequest) -> bool:
        """Who may change breakers elsewhere may reset them here."""
        return request.user.has_perm("council.change_breaker")

    @admin.display(description=gettext_lazy("model"), ordering="language_model__name")
    def model_name(self, breaker: Breaker) -> str:
        """Which model."""
        return breaker.language_model.name

    @admin.display(description=gettext_lazy("provider"), ordering="language_model__provider__name")
    def provider_name(self, breaker: Breaker) -> str:
        """At which provider."""
        return breaker.language_model.provider.name

    @admin.action(
        description=gettext_lazy("Reset (the model is asked again at once, and earlier failures do not count)"),
        permissions=["reset"],
    )
    def reset(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        """Close them."""
        chosen = list(queryset)
        with transaction.atomic():
            closed = breakers.reset(chosen)
            for breaker in chosen:
                self.log_change(request, breaker, "Reset.")
        done = ngettext("%s model is asked again.", "%s models are asked again.", closed)
        self.message_user(request, done % closed, messages.SUCCESS if closed else messages.WARNING)
