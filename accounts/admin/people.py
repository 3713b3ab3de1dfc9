"""People and their second factors in the admin."""

from typing import TYPE_CHECKING, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import sessions, sockets
from accounts.models import SHELL_EMAIL, User

if TYPE_CHECKING:
    PeopleAdmin = UserAdmin[User]
    FactorsAdmin = admin.ModelAdmin[Authenticator]
else:
    PeopleAdmin, FactorsAdmin = UserAdmin, admin.ModelAdmin

ONLY_ADMINISTRATOR = _("This is the only administrator. Make another one first.")
GROUPS_HELP = _("Groups decide which councils a person may use.")
RIGHTS = ("is_active", "is_staff", "is_superuser", "groups")

# A person has one address, the one on their own page. Sessions end with the person's password or with `active`.
admin.site.unregister(EmailAddress)
admin.site.unregister(UserSession)
admin.site.unregister(Authenticator)


class PersonAddForm(AdminUserCreationForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A new person. Without a password they choose one by "Forgot your password?"."""

    class Meta:
        model = User
        fields = ("email", "name")


class PersonForm(UserChangeForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A person. The last administrator cannot be taken away."""

    class Meta:
        model = User
        fields = ("email", "name", "password", *RIGHTS)
        help_texts = {"groups": GROUPS_HELP}

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError if nobody would be left to administer the site."""
        given = super().clean() or self.cleaned_data
        stays = all(given.get(right, getattr(self.instance, right)) for right in ("is_active", "is_superuser"))
        if not stays and self.instance.is_last_administrator():
            raise ValidationError(ONLY_ADMINISTRATOR)
        return given


class PersonPasswordForm(AdminPasswordChangeForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A new password for somebody, which ends their sessions."""

    def save(self, commit: bool = True) -> User:  # noqa: FBT001, FBT002  # the signature is Django's
        """Pages that those sessions have open hear nothing more."""
        person: User = super().save(commit)
        sockets.show_out(person.pk)
        return person


@admin.register(User)
class PersonAdmin(PeopleAdmin):
    """People are added and switched off here, never deleted: what they asked belongs to somebody."""

    form = PersonForm
    add_form = PersonAddForm
    change_password_form = PersonPasswordForm
    actions = ("deactivate",)
    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    search_fields = ("email", "name")
    ordering = ("email",)
    filter_horizontal = ()
    formfield_overrides = {models.ManyToManyField: {"widget": forms.CheckboxSelectMultiple}}
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        (_("Rights"), {"fields": RIGHTS}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:  # noqa: ARG002  # the signature is the framework's
        """Only a superuser hands out rights, or staff could give themselves all of them."""
        rights = () if is_superuser(request) else tuple(right for right in RIGHTS if right != "is_active")
        return (*self.readonly_fields, *rights)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody changes the shell's account; only a superuser changes a superuser or another of the staff."""
        if obj is not None and (
            obj.email == SHELL_EMAIL or ((obj.is_superuser or obj.is_staff) and not is_superuser(request))
        ):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """People are switched off instead."""
        return False

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002  # the signature is Django's
        """Whoever changes their own stays signed in, in a session with a new key: that is listed like any other."""
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST":
            UserSession.objects.create_from_request(request)
        return response

    def save_model(self, request: HttpRequest, obj: User, form: "forms.ModelForm[User]", change: bool) -> None:  # noqa: FBT001  # the signature is Django's
        """An administrator who gives out an address stands for it."""
        super().save_model(request, obj, form, change)
        if not change or "email" in form.changed_data:
            obj.vouch_for_address()
        if "is_active" in form.changed_data and not obj.is_active:
            self.turn_out(obj)

    @admin.action(description=_("Deactivate: sign out everywhere, stop what runs"), permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: "models.QuerySet[User]") -> None:
        """Switch people off at once. Nothing of theirs is lost; `active` on their page switches them on again."""
        for person in queryset.filter(is_active=True):
            if not self.has_change_permission(request, person):
                self.message_user(request, gettext("You may not change %s.") % person.email, messages.ERROR)
            elif person.is_last_administrator():
                self.message_user(request, ONLY_ADMINISTRATOR, messages.ERROR)
            else:
                with transaction.atomic():
                    person.is_active = False
                    person.save(update_fields=["is_active"])
                    self.turn_out(person)
                    self.log_change(request, person, gettext("Deactivated"))
                self.message_user(request, gettext("Deactivated: %s") % person.email, messages.SUCCESS)

    def turn_out(self, person: User) -> None:
        """End what goes on for somebody who was switched off. The floor above adds what it knows of."""
        sessions.end_all_of(person)


@admin.register(Authenticator)
class SecondFactorAdmin(FactorsAdmin):
    """Second factors can be taken away from somebody who lost theirs, and not be seen: they are secrets."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__email",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002  # the signature is the framework's
        """People set up their own."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """There is nothing to change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """Only a superuser: without the second factor, a password is enough."""
        return is_superuser(request)


def is_superuser(request: HttpRequest) -> bool:
    """Whether this person may hand out rights."""
    return bool(request.user.is_active and request.user.is_superuser)
