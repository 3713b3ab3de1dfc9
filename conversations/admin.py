"""Links in the admin: who shares, with whom and until when, never what.

And what it means for conversations that somebody is deactivated, or that the site's settings change.
"""

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.admin import people, site_settings
from accounts.models import SiteSettings, User
from conversations import deleting, sharing, viewers
from conversations.models import Share
from council.admin.parts import ReadOnly

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
        sharing.revoke(Share.objects.filter(pk__in=[each.pk for each in standing]))
        for share in standing:
            self.log_change(request, share, _("Revoked."))
        done = ngettext("%s link was revoked.", "%s links were revoked.", len(standing))
        self.message_user(request, done % len(standing), messages.SUCCESS if standing else messages.WARNING)


# In the place of the floor below's own, which know nothing of conversations.
admin.site.unregister(User)
admin.site.unregister(SiteSettings)


@admin.register(User)
class PersonAdmin(people.PersonAdmin):
    """People. Whoever is deactivated leaves nothing running."""

    def turn_out(self, person: User) -> None:
        """Stop what the council does for them, too."""
        super().turn_out(person)
        deleting.cancel_all_of(person)


@admin.register(SiteSettings)
class SettingsAdmin(site_settings.SiteSettingsAdmin):
    """Whoever looks through a link is asked again whether links for anyone are allowed, as soon as that is changed."""

    def save_model(self, request: HttpRequest, obj: SiteSettings, form: Any, change: Any) -> None:
        """Save, and tell."""
        super().save_model(request, obj, form, change)
        transaction.on_commit(lambda: async_to_sync(viewers.tell_group)(viewers.LINKS, {"type": "renewed"}))
