"""Invitations in the admin: made there, copied or mailed, looked after and withdrawn."""

# ruff: noqa: ARG002  # Django's signatures

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import invitations
from accounts.admin.people import GROUPS_HELP, is_superuser
from accounts.models import Invitation, User

if TYPE_CHECKING:
    InvitationsAdmin = admin.ModelAdmin[Invitation]
    InvitationModelForm = forms.ModelForm[Invitation]
else:
    InvitationsAdmin, InvitationModelForm = admin.ModelAdmin, forms.ModelForm

DAYS = {1: _("One day"), 7: _("Seven days"), 30: _("Thirty days")}


class InvitationForm(InvitationModelForm):
    """A new invitation."""

    days = forms.TypedChoiceField(label=_("Good for"), choices=list(DAYS.items()), coerce=int, initial=7)
    mail = forms.BooleanField(
        label=_("Send it by mail"),
        required=False,
        help_text=_("Otherwise you copy the link from the next page and hand it on yourself."),
    )

    class Meta:
        model = Invitation
        fields = ("email", "groups")
        help_texts = {
            "email": _("Whom it is for. The account gets this address; whoever invites stands for it."),
            "groups": GROUPS_HELP,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
            self.fields["mail"].initial = True
        elif "console" in settings.EMAIL_BACKEND:
            self.fields["mail"].help_text = _("No mail server is set up: the mail is printed where the site runs.")

    def clean_email(self) -> str:
        """In lower case. Raises ValidationError if there is an account: administrators see people anyway."""
        email = str(self.cleaned_data["email"]).lower()
        if User.objects.has_account(email):
            raise ValidationError(_("There is an account with this address already."))
        return email

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError where somebody made this account and nobody has proved its address: a mail does."""
        given = super().clean() or self.cleaned_data
        if not given.get("mail") and _is_there(given.get("email", "")):
            raise ValidationError({"mail": _("Somebody has made an account for this address: send the link there.")})
        return given


@admin.register(Invitation)
class InvitationAdmin(InvitationsAdmin):
    """Whoever may add people invites them. What an invitation says never changes; it can be withdrawn."""

    form = InvitationForm
    list_display = ("email", "state", "belongs_to", "created_by", "created", "expires")
    list_select_related = ("created_by",)
    search_fields = ("email",)
    actions = ("withdraw",)
    formfield_overrides = {models.ManyToManyField: {"widget": forms.CheckboxSelectMultiple}}

    class Media:
        js = (forms.Script("js/copy.js", defer=True),)

    def get_queryset(self, request: HttpRequest) -> "models.QuerySet[Invitation]":
        """With their groups, which the list shows."""
        return super().get_queryset(request).prefetch_related("groups")

    def get_fields(self, request: HttpRequest, obj: Invitation | None = None) -> tuple[str, ...]:
        """Only a superuser hands out groups; a link is shown while it is good, to whoever may hand out its groups.

        Where its key is gone, it still works for whom it was sent to, and cannot be shown.
        """
        if obj is None:
            return ("email", "groups", "days", "mail") if is_superuser(request) else ("email", "days", "mail")
        shown = obj.state == Invitation.State.OPEN and _may_have_link(request, obj) and obj.link
        link = ("link_to_copy",) if shown else ()
        ended = {
            Invitation.State.ACCEPTED: ("accepted", "accepted_by"),
            Invitation.State.WITHDRAWN: ("withdrawn",),
        }.get(obj.state, ())
        return ("email", "state", *link, "belongs_to", "created", "created_by", "expires", *ended)

    def get_readonly_fields(self, request: HttpRequest, obj: Invitation | None = None) -> tuple[str, ...]:
        """All of one that is made."""
        return () if obj is None else self.get_fields(request, obj)

    @admin.display(description=_("state"))
    def state(self, invitation: Invitation) -> str:
        """In a word."""
        return str(invitation.state.label)

    @admin.display(description=_("groups"))
    def belongs_to(self, invitation: Invitation) -> str:
        """The groups of the new person."""
        return ", ".join(group.name for group in invitation.groups.all()) or "-"

    @admin.display(description=_("link"))
    def link_to_copy(self, invitation: Invitation) -> str:
        """A box from which it can be copied; the button needs a script."""
        return format_html(
            '<span class="copy"><input id="link" class="vTextField" readonly value="{}" aria-label="{}">'
            '<button type="button" class="button" data-copy="link" data-copied="{}" hidden>{}</button></span>',
            invitation.link,
            gettext("Link"),
            gettext("Copied"),
            gettext("Copy"),
        )

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whoever may add people."""
        return _may_invite(request)

    def has_view_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        """Whoever may add people."""
        return _may_invite(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may add people."""
        return _may_invite(request)

    def has_change_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        """There is nothing to change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        """They are withdrawn instead."""
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One at a time: its link comes next."""
        one = {"title": gettext("Invite somebody"), "show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, (extra_context or {}) | one)

    def save_model(self, request: HttpRequest, obj: Invitation, form: Any, change: bool) -> None:  # noqa: FBT001  # the signature is Django's
        """Mail it, if that was asked for, once it is stored."""
        obj.created_by = User.objects.get(pk=cast("int", request.user.pk))
        obj.expires = timezone.now() + timedelta(days=form.cleaned_data["days"])
        super().save_model(request, obj, form, change)
        if form.cleaned_data["mail"]:
            transaction.on_commit(lambda: self._mail(request, obj))

    def response_add(self, request: HttpRequest, obj: Invitation, post_url_continue: str | None = None) -> HttpResponse:
        """On to its page, where the link is."""
        if not request.POST.get("mail"):
            words = gettext("The invitation of %s is made. No mail went out: copy the link and hand it on yourself.")
            messages.success(request, words % obj.email)
        return redirect("admin:accounts_invitation_change", obj.pk)

    @admin.action(description=_("Withdraw"), permissions=["add"])
    def withdraw(self, request: HttpRequest, queryset: "models.QuerySet[Invitation]") -> None:
        """Make links that are still good stop working at once."""
        withdrawn = 0
        for invitation in queryset:
            with transaction.atomic():
                # One statement, so that whoever accepts it at this moment comes before or after.
                if Invitation.objects.open().filter(pk=invitation.pk).update(withdrawn=timezone.now()):
                    self.log_change(request, invitation, gettext("Withdrawn"))
                    withdrawn += 1
        words = ngettext("%d invitation is withdrawn.", "%d invitations are withdrawn.", withdrawn) % withdrawn
        if withdrawn < len(queryset):
            words += " " + gettext("The others were over already.")
        self.message_user(request, words)

    def _mail(self, request: HttpRequest, invitation: Invitation) -> None:
        try:
            invitations.send(invitation)
        except OSError as error:
            words = gettext("The mail could not be sent (%s). Copy the link and hand it on yourself.")
            messages.error(request, words % error)
        else:
            words = gettext("The invitation of %s is made, and has gone out by mail.")
            if "console" in settings.EMAIL_BACKEND:
                words = gettext("The invitation of %s is made, and its mail is printed where the site runs.")
            messages.success(request, words % invitation.email)


def _may_invite(request: HttpRequest) -> bool:
    return request.user.has_perm("accounts.add_user")


def _may_have_link(request: HttpRequest, invitation: Invitation) -> bool:
    """Whoever has the link can join by it, and would be given its groups, and what the account has that it is for."""
    return not _is_there(invitation.email) and (is_superuser(request) or not invitation.groups.exists())


def _is_there(email: str) -> bool:
    return User.objects.filter(email__iexact=email).exists()
