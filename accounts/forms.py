"""The forms of this app's own pages. Signing in, passwords and second factors are allauth's."""

from typing import Any

from allauth.account.forms import SignupForm as AllauthSignupForm
from allauth.account.internal.flows.signup import prevent_enumeration
from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.forms import BaseUserCreationForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import SiteSettings, User

PASSWORD_HELP = _("At least ten characters, and not one of the common ones.")


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """What people may change about themselves."""

    class Meta:
        model = User
        fields = ("name",)
        widgets = {"name": forms.TextInput({"autocomplete": "name"})}
        help_texts = {"name": ""}


class AdministratorForm(BaseUserCreationForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """The first administrator."""

    class Meta:
        model = User
        fields = ("name", "email")
        labels = {"email": _("Email")}
        widgets = {
            "name": forms.TextInput({"autocomplete": "name"}),
            "email": forms.EmailInput({"autocomplete": "username"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP
        self.fields["password2"].help_text = ""
        self.fields["email"].widget.attrs.pop("autofocus", None)
        self.fields["name"].widget.attrs["autofocus"] = True


class JoinForm(SetPasswordForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """What the invited choose: a name and a password. Their address is the invitation's."""

    name = forms.CharField(
        label=_("Name"), max_length=100, required=False, widget=forms.TextInput({"autocomplete": "name"})
    )
    field_order = ("name", "new_password1", "new_password2")

    def __init__(self, email: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(User(email=email), *args, **kwargs)
        self.fields["new_password1"].label = _("Password")
        self.fields["new_password1"].help_text = PASSWORD_HELP
        self.fields["new_password2"].label = _("Password confirmation")
        self.fields["new_password2"].help_text = ""
        self.fields["new_password1"].widget.attrs.pop("autofocus", None)
        self.fields["name"].widget.attrs["autofocus"] = True

    def clean_name(self) -> str:
        """The password must not be like the name."""
        self.user.name = self.cleaned_data["name"]
        return str(self.user.name)


class SignupForm(AllauthSignupForm):
    """To sign up without an invitation, where the site's settings allow it. It says the same whoever has an account."""

    name = forms.CharField(
        label=_("Name"), max_length=100, required=False, widget=forms.TextInput({"autocomplete": "name"})
    )
    field_order = ("name", "email", "password1")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP
        self.settings = SiteSettings.current()
        if self.settings.signup == SiteSettings.SignUp.DOMAINS:
            self.fields["email"].help_text = self._domains()

    def clean_email(self) -> str:
        """Raises ValidationError for an address in none of the domains, whether it has an account or not."""
        if not self.settings.admits(self.cleaned_data["email"]):
            raise ValidationError(self._domains())
        return str(super().clean_email())

    def signup(self, request: HttpRequest, user: User) -> None:  # noqa: ARG002  # the signature is the framework's
        """Give the new person their name."""
        user.name = self.cleaned_data["name"]
        user.save(update_fields=["name"])

    def try_save(self, request: HttpRequest) -> tuple[AbstractBaseUser | None, HttpResponse | None]:
        """The new person; or none, and an answer that looks the same and takes as long: a mail says the rest."""
        if not self.account_already_exists:
            try:
                with transaction.atomic():
                    return self.save(request), None
            except IntegrityError:  # the same address at the same moment
                self.account_already_exists = True
        User().set_password(self.cleaned_data["password1"])
        return None, prevent_enumeration(request, email=self.cleaned_data["email"])

    def _domains(self) -> str:
        names = ", ".join(self.settings.domain_names)
        return gettext("Whoever has an address in one of these domains can sign up: %(names)s.") % {"names": names}
