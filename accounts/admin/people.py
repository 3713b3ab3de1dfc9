"""People and their second factors in the admin."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import roles, sessions, sockets, trail
from accounts.factors import FACTORS
from accounts.models import User
from accounts.roles import Role
from governance import audit
from governance.audit import Kind

if TYPE_CHECKING:
    PeopleAdmin = UserAdmin[User]
    FactorsAdmin = admin.ModelAdmin[Authenticator]
else:
    PeopleAdmin, FactorsAdmin = UserAdmin, admin.ModelAdmin

ONLY_ADMINISTRATOR = _("This is the only administrator. Make another one first.")
GROUPS_HELP = _("Groups decide what a person may do, and which councils they may use.")
RIGHTS = ("is_active", "is_staff", "is_superuser", "groups")

# A person has one address, the one on their own page. Sessions end with the person's password or with `active`.
admin.site.unregister(EmailAddress)
admin.site.unregister(UserSession)
admin.site.unregister(Authenticator)


class PersonAddForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A new person. They choose a password themselves, by "Forgot your password?"."""

    class Meta:
        model = User
        fields = ("email", "name")

    def save(self, commit: bool = True) -> User:  # noqa: FBT001, FBT002  # the signature is Django's
        """Nobody knows one until then."""
        self.instance.set_unusable_password()
        person: User = super().save(commit)
        return person


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
    add_fieldsets = ((None, {"fields": ("email", "name")}),)

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Nothing of a password for whoever cannot set one: as text it would be its hash."""
        if obj is None or (is_superuser(request) and self.has_change_permission(request, obj)):
            return super().get_fieldsets(request, obj)
        return ((None, {"fields": ("email", "name")}), *self.fieldsets[1:])

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only a superuser hands out rights, or staff could give themselves all of them.

        Nor does anybody else change the address of somebody: that would be to sign in as them.
        """
        if is_superuser(request):
            return self.readonly_fields
        rights = tuple(right for right in RIGHTS if right != "is_active")
        return (*self.readonly_fields, *rights, *(("email",) if obj else ()))

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody changes the shell's account; only a superuser changes a superuser or another of the staff."""
        if obj is not None and (obj.is_shell or ((obj.is_superuser or obj.is_staff) and not is_superuser(request))):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """People are switched off instead."""
        return False

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002  # the signature is Django's
        """Whoever changes their own stays signed in, in a session with a new key: that is listed like any other."""
        if not is_superuser(request):
            raise PermissionDenied
        with transaction.atomic():
            return self._password_changed(request, id, super().user_change_password(request, id, form_url))

    def _password_changed(self, request: HttpRequest, id: str, response: HttpResponse) -> HttpResponse:  # noqa: A002  # as above
        if request.method == "POST":
            if response.status_code == HTTPStatus.FOUND and (person := self.get_object(request, unquote(id))):
                what = "password set by an administrator"
                audit.record(Kind.SIGN_IN_CHANGED, request.user.actor, trail.thing(person), what=what)  # type: ignore[union-attr]  # who has signed in
            UserSession.objects.create_from_request(request)
        return response

    def save_model(self, request: HttpRequest, obj: User, form: "forms.ModelForm[User]", change: bool) -> None:  # noqa: FBT001  # the signature is Django's
        """An administrator who gives out an address stands for it."""
        super().save_model(request, obj, form, change)
        if not change or "email" in form.changed_data:
            obj.vouch_for_address()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001  # Django's signature
        """Somebody new is a member, and whoever works in the admin by their role may enter it."""
        super().save_related(request, form, formsets, change)
        person: User = form.instance
        if "is_active" in form.changed_data and not person.is_active:
            self.turn_out(request, person)
        if not change:
            person.groups.add(roles.group(Role.MEMBER))
        if not person.is_staff and roles.is_of_staff(person.groups.all()):
            person.is_staff = True
            person.save(update_fields=["is_staff"])

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
                    self.turn_out(request, person)
                    self.log_change(request, person, gettext("Deactivated"))
                self.message_user(request, gettext("Deactivated: %s") % person.email, messages.SUCCESS)

    def turn_out(self, request: HttpRequest, person: User) -> None:  # noqa: ARG002  # the floor above tells who did it
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

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        """Codes that stood in for it go too: without a second factor they mean nothing, and would count as one."""
        super().delete_model(request, obj)
        _forget_codes([obj.user_id])

    def delete_queryset(self, request: HttpRequest, queryset: "models.QuerySet[Authenticator]") -> None:
        """The same."""
        people = [each.user_id for each in queryset]
        super().delete_queryset(request, queryset)
        _forget_codes(people)

    def has_delete_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:  # noqa: ARG002  # the signature is the framework's
        """Only a superuser: without the second factor, a password is enough."""
        return is_superuser(request)


def _forget_codes(people: list[int]) -> None:
    """Remove the recovery codes of those who have no second factor any more."""
    left = Authenticator.objects.filter(user__in=people, type__in=FACTORS).values("user")
    codes = Authenticator.objects.filter(user__in=people, type=Authenticator.Type.RECOVERY_CODES)
    codes.exclude(user__in=left).delete()


def is_superuser(request: HttpRequest) -> bool:
    """Whether this person may hand out rights."""
    return bool(request.user.is_active and request.user.is_superuser)
