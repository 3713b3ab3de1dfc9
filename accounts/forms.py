"""The forms of this app's own pages. Signing in, passwords and second factors are allauth's."""

from typing import Any

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm
from django.utils.translation import gettext_lazy as _

from accounts.models import User


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
        self.fields["password1"].help_text = _("At least ten characters, and not one of the common ones.")
        self.fields["password2"].help_text = ""
        self.fields["email"].widget.attrs.pop("autofocus", None)
        self.fields["name"].widget.attrs["autofocus"] = True
