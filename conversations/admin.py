"""Links and conversations in the admin: whose, with whom and until when, never what.

And what it means for conversations that somebody is deactivated, or that the site's settings change.
"""

import json
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from procrastinate.contrib.django.admin import ProcrastinateJobAdmin
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts import roles
from accounts.admin import people, site_settings
from accounts.admin.read_only import ReadOnly
from accounts.models import SiteSettings, User
from conversations import deleting, presenting, reading, sharing, trail, viewers
from conversations.models import Conversation, Share
from governance.audit import Kind

STATES = {"open": gettext_lazy("open"), "expired": gettext_lazy("expired"), "revoked": gettext_lazy("revoked")}


class StateFilter(admin.SimpleListFilter):
    """By what became of a link."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:  # noqa: ARG002  # Django's signature
        """The same words as in the list."""
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Share]) -> QuerySet[Share]:  # noqa: ARG002  # Django's
        """Those in the chosen state."""
        expired = Q(expires__lte=Now())
        match self.value():
            case "open":
                return queryset.filter(~expired, revoked=None)
            case "expired":
                return queryset.filter(expired, revoked=None)
            case "revoked":
                return queryset.exclude(revoked=None)
        return queryset


@admin.register(Share)
class ShareAdmin(ReadOnly):
    """Every link there is and was. Never its address, nor a title, nor anything that was asked or answered."""

    list_display = ("owner", "created", "audience", "kind", "state", "expires", "opened")
    list_display_links = ("created",)
    list_filter = (StateFilter, "audience", "created")
    list_select_related = ("conversation__owner",)
    search_fields = ("conversation__owner__email", "conversation__owner__name")
    fields = ("owner", "created", "audience", "kind", "taken", "state", "expires", "opened", "revoked")
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Who may change links elsewhere may revoke them here."""
        return bool(request.user.has_perm("conversations.change_share"))

    @admin.display(description=gettext_lazy("shared by"), ordering="conversation__owner__email")
    def owner(self, share: Share) -> str:
        """Whose conversation it is."""
        return str(share.conversation.owner)

    @admin.display(description=gettext_lazy("shows"), ordering="live")
    def kind(self, share: Share) -> str:
        """A snapshot, or all there is."""
        return _("live") if share.live else _("snapshot")

    @admin.display(description=gettext_lazy("state"))
    def state(self, share: Share) -> str:
        """In a word."""
        return str(STATES["revoked" if share.revoked else "expired" if share.over else "open"])

    @admin.action(description=gettext_lazy("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Share]) -> None:
        """They open for nobody any more, and open pages close."""
        standing = list(queryset.filter(revoked=None))
        sharing.revoke(Share.objects.filter(pk__in=[each.pk for each in standing]), trail.actor_of(request.user))
        for share in standing:
            self.log_change(request, share, _("Revoked."))
        done = ngettext("%s link was revoked.", "%s links were revoked.", len(standing))
        self.message_user(request, done % len(standing), messages.SUCCESS if standing else messages.WARNING)


admin.site.unregister(ProcrastinateJob)


@admin.register(ProcrastinateJob)
class JobAdmin(ProcrastinateJobAdmin):  # type: ignore[misc]  # untyped in the library
    """The library's own, without styles that the content security policy blocks, and without its actions.

    They need no right but that to look, and nobody would be told of them.
    """

    actions = ()

    @admin.display(description=gettext_lazy("arguments"))
    def pretty_args(self, instance: ProcrastinateJob) -> str:
        """As JSON."""
        return json.dumps(instance.args)[:2000]


class ReasonForm(forms.Form):
    """Why somebody reads what is not theirs."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        min_length=10,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
        help_text=gettext_lazy("It is kept in the audit trail with your name, the conversation and the time."),
    )


@admin.register(Conversation)
class ConversationAdmin(ReadOnly):
    """Whose conversations there are, and when they were asked something: never what they are called, nor what they say.

    Who has the right of its own may read one, and says why each time.
    """

    list_display = ("id", "owner", "created", "updated", "questions", "deleted")
    list_filter = ("created", "updated")
    list_select_related = ("owner",)
    search_fields = ("=id", "owner__email", "owner__name")
    fields = ("id", "owner", "created", "updated", "questions", "deleted", "to_read")
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """With how much was asked, and without titles."""
        return super().get_queryset(request).defer("title").annotate(asked=Count("turns"))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ARG002  # Django's signature
        """The way to read it is shown to who may."""
        return [each for each in self.fields if each != "to_read" or may_read(request)]

    def get_urls(self) -> list[URLPattern]:
        """With the page that shows one."""
        own = path("<uuid:key>/read/", self.admin_site.admin_view(self.read), name="conversations_conversation_read")
        return [own, *super().get_urls()]

    def read(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Ask for a reason, keep it, and then show the conversation."""
        if not (self.has_view_permission(request) and may_read(request)):
            raise PermissionDenied
        found = get_object_or_404(Conversation.objects.select_related("owner"), pk=key)
        form = ReasonForm(request.POST or None)
        known = {**self.admin_site.each_context(request), "opts": self.opts, "conversation": found, "form": form}
        if request.method != "POST" or not form.is_valid():
            status = 422 if request.method == "POST" else 200
            return render(request, "admin/conversations/conversation/reason.html", known, status=status)
        trail.told(Kind.READ, request.user, found, reason=form.cleaned_data["reason"], owner=found.owner.actor)
        shown = {**presenting.page(reading.turns(found.pk)), "conversation": found, "without_calls": True}
        response = render(request, "conversations/read_by_staff.html", shown)
        response["Cache-Control"] = "no-store"
        return response

    @admin.display(description=gettext_lazy("questions"), ordering="asked")
    def questions(self, conversation: Any) -> int:
        """How many."""
        return int(conversation.asked)

    @admin.display(description=gettext_lazy("read it"))
    def to_read(self, conversation: Conversation) -> str:
        """The way there."""
        place = reverse("admin:conversations_conversation_read", args=[conversation.pk])
        return format_html('<a href="{}">{}</a>', place, _("Give a reason, and read it"))


def may_read(request: HttpRequest) -> bool:
    """Whether the right to read others was given to this person or a group of theirs: no power brings it along."""
    return isinstance(request.user, User) and roles.READ_OTHERS in request.user.rights


# In the place of the floor below's own, which know nothing of conversations.
admin.site.unregister(User)
admin.site.unregister(SiteSettings)


@admin.register(User)
class PersonAdmin(people.PersonAdmin):
    """People. Whoever is deactivated leaves nothing running."""

    def turn_out(self, request: HttpRequest, person: User) -> None:
        """Stop what the council does for them, too."""
        super().turn_out(request, person)
        deleting.cancel_all_of(person, trail.actor_of(request.user))


@admin.register(SiteSettings)
class SettingsAdmin(site_settings.SiteSettingsAdmin):
    """Whoever looks through a link is asked again whether links for anyone are allowed, as soon as that is changed."""

    def save_model(self, request: HttpRequest, obj: SiteSettings, form: Any, change: Any) -> None:
        """Save, and tell."""
        super().save_model(request, obj, form, change)
        transaction.on_commit(lambda: async_to_sync(viewers.tell_group)(viewers.LINKS, {"type": "renewed"}))
