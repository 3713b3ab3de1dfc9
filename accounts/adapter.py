"""What the site asks of allauth beyond its settings."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest
from django.urls import reverse


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are given out by administrators."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002  # the signature is the framework's
        """Nobody signs up by themselves."""
        return False

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:  # noqa: ARG002  # the signature is the framework's
        """Back to where the change began."""
        return reverse("settings")

    def format_email_subject(self, subject: str) -> str:
        """The site's name goes first."""
        return f"[LLM Council] {subject}"
