"""Deliberations and calls in the admin: how they went and what they cost, without content; and a way to stop them."""

# ruff: noqa: ARG002  # Django's signatures

from typing import Any

import structlog
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.admin.read_only import ReadOnly
from council import trail
from council.admin.parts import WordsOfProviders, dollars
from council.models import Call, Deliberation, LanguageModel
from governance import audit
from governance.audit import Kind

logger = structlog.get_logger(__name__)

NONE = "-"
"""For what there is not, as the admin says it in lists; on the page of a row it would write "None"."""


@admin.register(Deliberation)
class DeliberationAdmin(ReadOnly):
    """What councils are and were busy with. Never what was asked or answered."""

    list_display = ("id", "council_name", "mode", "status", "stage", "created", "seconds", "cost")
    list_filter = ("status", "mode", "practice", "created")
    search_fields = ("=id", "council_name")
    actions = ("stop",)
    fields = (
        "id",
        "council_name",
        "mode",
        "practice",
        "status",
        "stage",
        "reason",
        "created",
        "started",
        "finished",
        "seconds",
        "cost",
        "attempt",
        "handed_over",
        "cancel_requested",
        "requests",
        "events",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deliberation]:
        """With the sum of the costs of its calls, and without what was asked."""
        spent = Call.objects.filter(deliberation=OuterRef("pk")).order_by().values("deliberation")
        return (
            super()
            .get_queryset(request)
            .defer("plan", "standings")
            .annotate(spent=Subquery(spent.annotate(sum=Sum("cost")).values("sum")))
        )

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Who may change deliberations elsewhere may stop them here."""
        return request.user.has_perm("council.change_deliberation")

    @admin.display(description=gettext_lazy("seconds"))
    def seconds(self, deliberation: Deliberation) -> str:
        """From the question to the end."""
        return NONE if deliberation.elapsed is None else f"{deliberation.elapsed.total_seconds():.1f}"

    @admin.display(description=gettext_lazy("cost"), ordering="spent")
    def cost(self, deliberation: Any) -> str:
        """Of all its calls so far, as far as prices are known."""
        return dollars(deliberation.spent) or NONE

    @admin.display(description=gettext_lazy("calls"))
    def requests(self, deliberation: Deliberation) -> str:
        """What went to providers for it."""
        place = f"{reverse('admin:council_call_changelist')}?q={deliberation.pk}"
        return format_html('<a href="{}">{}</a>', place, _("Each request to a provider"))

    @admin.display(description=gettext_lazy("audit trail"))
    def events(self, deliberation: Deliberation) -> str:
        """Who asked, and what became of it."""
        place = f"{reverse('admin:governance_event_changelist')}?q={deliberation.pk}"
        return format_html('<a href="{}">{}</a>', place, _("What the trail says of it"))

    @admin.action(description=gettext_lazy("Stop"), permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Deliberation]) -> None:
        """Ask the workers to stop them. What has come by then is kept."""
        with transaction.atomic():
            going = list(
                queryset.filter(status__in=Deliberation.UNFINISHED, cancel_requested=False)
                .order_by("pk")
                .select_for_update(of=("self",))
            )
            Deliberation.objects.filter(pk__in=[each.pk for each in going]).update(cancel_requested=True)
            for deliberation in going:
                audit.record(Kind.STOPPED, request.user.actor, trail.thing(deliberation.pk), by="administration")
        for deliberation in going:
            logger.info("Stop asked for", deliberation=str(deliberation.pk))
        done = ngettext("%s deliberation is being stopped.", "%s deliberations are being stopped.", len(going))
        self.message_user(request, done % len(going), messages.SUCCESS if going else messages.WARNING)


class ModelFilter(admin.SimpleListFilter):
    """One model; its stock counterpart asks the database once for each model's provider."""

    title = gettext_lazy("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        """Every model of the catalogue."""
        names = LanguageModel.objects.values_list("pk", "name", "provider__name")
        return [(pk, f"{name} ({provider})") for pk, name, provider in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        """Calls to that model."""
        chosen = self.value()
        return queryset.filter(language_model=chosen) if chosen and chosen.isdecimal() else queryset


@admin.register(Call)
class CallAdmin(WordsOfProviders, ReadOnly):
    """Every request to a provider, tests and titles too. Never what was asked or answered."""

    list_display = (
        "queued",
        "purpose",
        "model_name",
        "provider_name",
        "result",
        "error",
        "seconds",
        "spent",
        "waited",
        "first_after",
        "input_tokens",
        "output_tokens",
    )
    list_filter = ("state", "outcome", "unknown", "purpose", "language_model__provider", ModelFilter, "queued")
    search_fields = ("model_name", "provider_name", "error", "generation", "=deliberation__id")
    ordering = ("-queued", "-pk")
    show_full_result_count = False
    fields = (
        "purpose",
        "model_name",
        "provider_name",
        "deliberation_id",
        "seat",
        "state",
        "outcome",
        "error",
        "generation",
        "queued",
        "sent",
        "waited",
        "first_after",
        "seconds",
        "input_tokens",
        "output_tokens",
        "estimated",
        "spent",
        "unknown",
        "fault",
    )

    @admin.display(description=gettext_lazy("outcome"), ordering="outcome")
    def result(self, call: Call) -> str:
        """How it ended; until then, how far it is."""
        return call.outcome or str(call.get_state_display())

    @admin.display(description=gettext_lazy("waited"), ordering=F("sent") - F("queued"))
    def waited(self, call: Call) -> str:
        """Seconds until it was sent: for its turn, or for another attempt. Nothing: it never was."""
        return f"{(call.sent - call.queued).total_seconds():.1f}" if call.sent else NONE

    @admin.display(description=gettext_lazy("first token"), ordering=F("first_token") - F("sent"))
    def first_after(self, call: Call) -> str:
        """Seconds until the first sign of life."""
        return f"{(call.first_token - call.sent).total_seconds():.1f}" if call.first_token and call.sent else NONE

    @admin.display(description=gettext_lazy("seconds"), ordering=F("ended") - F("sent"))
    def seconds(self, call: Call) -> str:
        """How long it took in all."""
        return f"{(call.ended - call.sent).total_seconds():.1f}" if call.ended and call.sent else NONE

    @admin.display(description=gettext_lazy("cost"), ordering="cost")
    def spent(self, call: Call) -> str:
        """In dollars."""
        return dollars(call.cost) or NONE
