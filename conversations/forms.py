"""What the dialog of a link asks."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import SiteSettings
from conversations import sharing
from conversations.models import Conversation, Share

PRIVATE = "private"
KEEP, NEVER = "keep", "never"
DAYS = (1, 7, 30)


class ShareForm(forms.Form):
    """Who may open the link of a conversation, what they see, and for how long."""

    audience = forms.ChoiceField(
        choices=[
            (PRIVATE, gettext_lazy("Private")),
            (Share.Audience.TEAM, gettext_lazy("Team")),
            (Share.Audience.ANYONE, gettext_lazy("Anyone with the link")),
        ],
        error_messages={"required": gettext_lazy("Choose who may open it.")},
    )
    live = forms.TypedChoiceField(
        choices=[("", gettext_lazy("Snapshot")), ("live", gettext_lazy("Live"))],
        coerce=bool,
        empty_value=False,
        required=False,
    )
    expiry = forms.ChoiceField(label=gettext_lazy("Expires"), required=False)

    def __init__(self, data: Any, conversation: Conversation, share: Share | None, *, publicly: bool = True) -> None:
        """`publicly`: whether this person may make links for anyone, where the site allows them."""
        given = {"audience": share.audience, "live": "live" if share.live else ""} if share else {"audience": PRIVATE}
        super().__init__(data, initial={**given, "expiry": KEEP if share and share.expires else NEVER})
        self.conversation, self.share = conversation, share
        self.public_links = publicly and SiteSettings.current().public_links
        self.something_ended = sharing.last_ended(conversation) is not None
        choices = [(NEVER, _("Never"))]
        choices += [(str(each), ngettext("In %s day", "In %s days", each) % each) for each in DAYS]
        if share and share.expires:
            choices.insert(0, (KEEP, _("Expired") if share.over else _("Keep:")))
        self.fields["expiry"].choices = choices  # type: ignore[attr-defined]  # a ChoiceField's

    def clean_audience(self) -> str:
        """Raises ValidationError for what the administrator does not allow."""
        audience: str = self.cleaned_data["audience"]
        if audience == Share.Audience.ANYONE and not self.public_links:
            raise forms.ValidationError(_("The administrator does not allow links for anyone. Choose the team."))
        return audience

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError for what cannot be shared so."""
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if given.get("live") and given.get("audience") == Share.Audience.ANYONE:
            self.add_error("live", _("A live link is for the team alone. Choose a snapshot, or the team."))
        if given.get("audience") in Share.Audience.values and not given.get("live") and not self.something_ended:
            self.add_error("live", _("A snapshot needs an answer. Wait for the council to end, or share it live."))
        return given

    @property
    def expires(self) -> datetime | None:
        """When the link ends, as chosen; None: never."""
        chosen = self.cleaned_data["expiry"] or NEVER
        if chosen == KEEP and self.share:
            return self.share.expires
        return None if chosen == NEVER else timezone.now() + timedelta(days=int(chosen))
