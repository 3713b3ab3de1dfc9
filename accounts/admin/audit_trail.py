"""The audit trail in the admin: who did what, to what, and whether the trail is whole. Nobody changes anything here."""

# ruff: noqa: ARG002  # Django's signatures

import json
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import CharField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from accounts import limits
from accounts.admin.read_only import ReadOnly
from accounts.models import User
from accounts.refusing import too_often
from governance import audit, chain
from governance.audit import Kind, Thing
from governance.models import Event, Verification

ONCE_IN = timedelta(minutes=1)
"""A look through a long trail takes about that long."""
LATE = timedelta(days=2)
"""It is looked through every night: where it was not for so long, the job does not run."""
WORDS = 200
"""Characters of an event's details in the list."""
MOST_EXPORTED = 20_000
"""Events in a file, which is made in the memory of a web process."""
EXPORTED_AT_A_TIME = 2_000
EXPORTED = ("id", "at", "actor", "kind", "object_type", "object_id", "details", "hash")


class KindFilter(admin.SimpleListFilter):
    """By what was done."""

    title = gettext_lazy("what")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """All that there is."""
        return [(str(kind), str(kind)) for kind in Kind]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Those."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnly):
    """Events, the newest first. Searched by a person's address or name, or by the id of a thing."""

    list_display = ("at", "who", "kind", "thing", "summary")
    list_filter = (KindFilter, "object_type", "at")
    search_fields = ("=object_id", "=actor")
    search_help_text = gettext_lazy("A person's address or name, or the id of a deliberation or another thing.")
    show_full_result_count = False
    list_per_page = 50
    fields = ("id", "at", "who", "kind", "thing", "all_details", "fingerprint")
    actions = ("export",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """With the address of who is known still."""
        person = User.objects.filter(actor=OuterRef("actor"))
        about = User.objects.annotate(key=Cast("actor", CharField())).filter(key=OuterRef("object_id"))
        events: QuerySet[Event] = super().get_queryset(request)
        return events.annotate(person=Subquery(person.values("email")[:1]), about=Subquery(about.values("email")[:1]))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """A pseudonym is looked up by whose it is; a deliberation has what was done with its conversation, too."""
        term = search_term.strip()
        if not term:
            return queryset, False
        people = User.objects.filter(Q(email__icontains=term) | Q(name__icontains=term)).values("actor")
        actors = [str(each["actor"]) for each in people]
        asked = Event.objects.filter(kind=Kind.ASKED, object_type="deliberation", object_id=term)
        things = [term, *actors, *asked.values_list("details__conversation", flat=True)]
        return queryset.filter(Q(object_id__in=things) | Q(actor__in=actors)), False

    def get_urls(self) -> list[URLPattern]:
        """With the two that act on the whole trail."""
        own = [
            path("verify/", self.admin_site.admin_view(self.verify), name="governance_event_verify"),
            path("head/", self.admin_site.admin_view(self.head), name="governance_event_head"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With what the last look through the trail came to, and what has come since."""
        last = Verification.objects.first()
        known: dict[str, Any] = {"verification": last}
        if last is not None:
            known["late"] = timezone.now() - last.at > LATE
            known["since"] = max(0, chain.head().event - last.count)
        return super().changelist_view(request, (extra_context or {}) | known)

    @method_decorator(require_POST)
    def verify(self, request: HttpRequest) -> HttpResponse:
        """Look through the whole trail now."""
        self._require(request)
        last = Verification.objects.first()
        if last is not None and timezone.now() - last.at < ONCE_IN:
            messages.info(request, _("It was looked through just now."))
            return HttpResponseRedirect(reverse("admin:governance_event_changelist"))
        found = chain.verify_and_keep()
        audit.record(Kind.DID, request.user.actor, Thing("audit trail"), what="looked through", events=found.events)  # type: ignore[union-attr]  # who has signed in
        said = ngettext("%s event was looked through.", "%s events were looked through.", found.events) % found.events
        messages.add_message(request, messages.ERROR if found.wrong else messages.SUCCESS, said)
        return HttpResponseRedirect(reverse("admin:governance_event_changelist"))

    @method_decorator(require_POST)
    def head(self, request: HttpRequest) -> HttpResponse:
        """The end of the trail, signed, as a file."""
        self._require(request)
        head = chain.head()
        try:
            limits.take(limits.What.ACTS, request.user)
            document = chain.signed(head)
        except limits.Reached as reached:
            return too_often(request, reached)
        except ImproperlyConfigured as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:governance_event_changelist"))
        audit.record(Kind.EXPORTED, request.user.actor, Thing("audit head", head.event))  # type: ignore[union-attr]  # who has signed in
        name = f'attachment; filename="audit-head-{head.event}.json"'
        return HttpResponse(document, content_type="application/json", headers={"Content-Disposition": name})

    def _require(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    @admin.action(description=gettext_lazy("Export as JSON lines"), permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Event]) -> HttpResponse | None:
        """The chosen events as a file: one a line, as the chain knows them. Of too many, none: a part would mislead."""
        try:
            limits.take(limits.What.ACTS, request.user)
        except limits.Reached as reached:
            return too_often(request, reached)
        if queryset.count() > MOST_EXPORTED:
            said = _("A file has at most %s events. Narrow the list, by time or by who did it, and export each part.")
            messages.error(request, said % intcomma(MOST_EXPORTED))
            return None
        # Whose pseudonym it is, which the list looks up, is left out.
        events = queryset.order_by("pk").values(*EXPORTED).iterator(chunk_size=EXPORTED_AT_A_TIME)
        lines = [f"{json.dumps(_exported(each), ensure_ascii=False)}\n" for each in events]
        audit.record(Kind.EXPORTED, request.user.actor, Thing("audit trail"), events=len(lines))  # type: ignore[union-attr]  # the same
        name = 'attachment; filename="audit-trail.jsonl"'
        return HttpResponse(lines, content_type="application/jsonl", headers={"Content-Disposition": name})

    @admin.display(description=gettext_lazy("who"))
    def who(self, event: Any) -> str:
        """A person's address, as long as it is known; a pseudonym then."""
        if event.actor is None:
            return _("the site")
        return str(event.person or _("somebody who was erased (%s)") % event.actor)

    @admin.display(description=gettext_lazy("to what"))
    def thing(self, event: Any) -> str:
        """Its type and its id; of a person the address, as long as it is known."""
        return f"{event.object_type.rpartition('.')[2]} {event.about or event.object_id}".strip()

    @admin.display(description=gettext_lazy("details"))
    def summary(self, event: Event) -> str:
        """The beginning of its details."""
        said = "; ".join(_told(name, value) for name, value in event.details.items() if value not in (None, "", [], {}))
        return said if len(said) <= WORDS else f"{said[:WORDS]}…"

    @admin.display(description=gettext_lazy("details"))
    def all_details(self, event: Event) -> str:
        """All of them, for reading."""
        return format_html("<pre>{}</pre>", json.dumps(event.details, ensure_ascii=False, indent=2))

    @admin.display(description=gettext_lazy("hash"))
    def fingerprint(self, event: Event) -> str:
        """In hexadecimal digits."""
        return bytes(event.hash).hex()


def _exported(event: dict[str, Any]) -> dict[str, Any]:
    """An event as JSON knows it."""
    actor = event["actor"] and str(event["actor"])
    return {**event, "at": event["at"].isoformat(), "actor": actor, "hash": bytes(event["hash"]).hex()}


def _told(name: str, value: Any) -> str:
    """A detail in words: what changed from what to what, and who is named by model and provider."""
    if name == "changes":
        return "; ".join(_changed(column, *pair) for column, pair in value.items())
    return f"{name}: {_word(value)}"


def _changed(column: str, before: Any, after: Any) -> str:
    if any(isinstance(each, str) and each.startswith("digest ") for each in (before, after)):
        return _("%s changed") % column
    return f"{column}: {_word(after)}" if before is None else f"{column}: {_word(before)} → {_word(after)}"


def _word(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return _("yes") if value else _("no")
        case None:
            return "-"
        case {"model": model, "provider": provider}:
            return f"{model} ({provider})"
        case list():
            return ", ".join(map(_word, value)) or "-"
    return json.dumps(value, ensure_ascii=False)
