"""The forms of this app's own pages. Signing in, passwords and second factors are allauth's."""

from typing import Any

from allauth.account import forms as allauth_forms
from allauth.account.adapter import get_adapter
from allauth.mfa.adapter import get_adapter as get_factors_adapter
from allauth.mfa.base import forms as factor_forms
from allauth.mfa.webauthn import forms as key_forms
from django import forms
from django.contrib.auth.forms import BaseUserCreationForm
from django.contrib.auth.forms import SetPasswordForm as DjangoSetPasswordForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from fido2.webauthn import AuthenticationResponse, RegistrationResponse

from accounts import factors, signing_up
from accounts.models import SHELL_EMAIL, TAKEN, SiteSettings, User

ADDRESS = _("E-mail address")
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
        labels = {"email": ADDRESS}
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


class JoinForm(DjangoSetPasswordForm):  # type: ignore[type-arg]  # generic in the stubs alone
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


class LoginForm(allauth_forms.LoginForm):
    """Address and password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = ADDRESS


class AddressForm(allauth_forms.AddEmailForm):
    """Another address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("New e-mail address")

    def clean_email(self) -> str:
        """Raises ValidationError for the shell's, too, which may have no account yet."""
        email = str(super().clean_email())
        if email == SHELL_EMAIL:
            raise ValidationError(TAKEN)
        return email


class ForgottenPasswordForm(allauth_forms.ResetPasswordForm):
    """Asks for a mail to choose a new password by."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = ADDRESS


class NewPasswordForm(allauth_forms.ResetPasswordKeyForm):
    """A new password, by the link of a mail."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _say_what_passwords_are(self)


class ChangePasswordForm(allauth_forms.ChangePasswordForm):
    """A new password instead of the one that is known."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["oldpassword"].label = _("Current password")
        _say_what_passwords_are(self)


class SetPasswordForm(allauth_forms.SetPasswordForm):
    """A password for somebody who has none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _say_what_passwords_are(self)


def _say_what_passwords_are(form: forms.Form) -> None:
    """In one sentence, as where accounts are made."""
    form.fields["password1"].label = _("New password")
    form.fields["password1"].help_text = PASSWORD_HELP
    form.fields["password2"].label = _("New password again")


class SignupForm(allauth_forms.SignupForm):
    """To sign up without an invitation, where the site's settings allow it. It says the same whoever has an account."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = ADDRESS
        del self.fields["password1"]  # chosen by whoever reads the mail
        self.settings = SiteSettings.current()
        if self.settings.signup == SiteSettings.SignUp.DOMAINS:
            self.fields["email"].help_text = self._domains()

    def clean_email(self) -> str:
        """Raises ValidationError for an address in none of the domains, whether it has an account or not."""
        if not self.settings.admits(self.cleaned_data["email"]):
            raise ValidationError(_("This address is in none of the domains that can sign up."))
        return str(super().clean_email())

    def try_save(self, request: HttpRequest) -> tuple[None, HttpResponseBase]:
        """Nobody yet: a mail goes out, and says the rest."""
        signing_up.send(request, self.cleaned_data["email"])
        return None, get_adapter().respond_email_verification_sent(request, None)

    def _domains(self) -> str:
        names = ", ".join(self.settings.domain_names)
        return gettext("Whoever has an address in one of these domains can sign up: %(names)s.") % {"names": names}


class _Once:
    """Before a form that asks for a code: each of an app's is good for once."""

    def clean_code(self: Any) -> str:
        """Raises ValidationError."""
        code: str = super().clean_code()  # type: ignore[misc]  # of the form that this comes before
        if not factors.spend(self.authenticator):
            raise get_factors_adapter().validation_error("incorrect_code")
        return code


class FactorForm(_Once, factor_forms.AuthenticateForm):
    """A code, to sign in."""


class FactorAgainForm(_Once, factor_forms.ReauthenticateForm):
    """A code, to go on with something sensitive."""


class _PasskeyField(forms.JSONField):
    """What a browser says of a passkey. Anything may come in its place, and allauth expects that of some of it only."""

    def __init__(self, kind: type[AuthenticationResponse | RegistrationResponse]) -> None:
        super().__init__(widget=forms.HiddenInput)
        self.kind = kind

    def clean(self, value: Any) -> Any:
        """Raises ValidationError for what cannot be read."""
        said = super().clean(value)
        try:
            self.kind.from_dict(said)
        except Exception as error:  # whatever its parsers stumble over, these bytes came from outside
            raise get_factors_adapter().validation_error("incorrect_code") from error
        return said


class _Passkey(forms.Form):
    """Before a form that takes a passkey: it speaks of passkeys where it refuses one, not of codes."""

    def add_error(self, field: str | None, error: Any) -> None:
        """In these words, not in allauth's."""
        if getattr(error, "code", None) == "incorrect_code":
            error = ValidationError(_("This passkey was not accepted. Try again, or another way."), "incorrect_code")
        super().add_error(field, error)


class PasskeyForm(_Passkey, key_forms.AuthenticateWebAuthnForm):
    """A passkey as the second factor."""

    credential = _PasskeyField(AuthenticationResponse)


class PasskeyAloneForm(_Passkey, key_forms.LoginWebAuthnForm):
    """A passkey, to sign in without a password."""

    credential = _PasskeyField(AuthenticationResponse)


class PasskeyAgainForm(_Passkey, key_forms.ReauthenticateWebAuthnForm):
    """A passkey, to go on with something sensitive."""

    credential = _PasskeyField(AuthenticationResponse)


class NewPasskeyForm(_Passkey, key_forms.AddWebAuthnForm):
    """A new one."""

    credential = _PasskeyField(RegistrationResponse)
