"""People and their second factors in the admin."""

from typing import TYPE_CHECKING, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

from accounts.models import SHELL_EMAIL, SiteSettings, User

if TYPE_CHECKING:
    PeopleAdmin = UserAdmin[User]
    FactorsAdmin = admin.ModelAdmin[Authenticator]
    OneRowAdmin = admin.ModelAdmin[SiteSettings]
else:
    PeopleAdmin, FactorsAdmin, OneRowAdmin = UserAdmin, admin.ModelAdmin, admin.ModelAdmin

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

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError if nobody would be left to administer the site."""
        given = super().clean() or self.cleaned_data
        others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=self.instance.pk)
        was = User.objects.filter(pk=self.instance.pk, is_superuser=True, is_active=True)
        stays = all(given.get(right, getattr(self.instance, right)) for right in ("is_active", "is_superuser"))
        if not stays and was.exists() and not others.exists():
            raise ValidationError(_("This is the only administrator. Make another one first."))
        return given


@admin.register(User)
class PersonAdmin(PeopleAdmin):
    """People are added and switched off here, never deleted: what they asked belongs to somebody."""

    form = PersonForm
    add_form = PersonAddForm
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
        rights = () if _superuser(request) else tuple(right for right in RIGHTS if right != "is_active")
        return (*self.readonly_fields, *rights)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody changes the shell's account; only a superuser changes a superuser or another of the staff."""
        if obj is not None and (
            obj.email == SHELL_EMAIL or ((obj.is_superuser or obj.is_staff) and not _superuser(request))
        ):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """People are switched off instead."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: "forms.ModelForm[User]", change: bool) -> None:  # noqa: FBT001  # the signature is Django's
        """An administrator who gives out an address stands for it."""
        super().save_model(request, obj, form, change)
        if not change or "email" in form.changed_data:
            obj.vouch_for_address()


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
        return _superuser(request)


@admin.register(SiteSettings)
class SiteSettingsAdmin(OneRowAdmin):
    """The one row: its list is its form."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002  # the signature is the framework's
        """Straight to the form."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        SiteSettings.objects.get_or_create(pk=1)
        return redirect("admin:accounts_sitesettings_change", 1)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002  # the signature is the framework's
        """It is there already."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: SiteSettings | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """It stays."""
        return False


def _superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)
