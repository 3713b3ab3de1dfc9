"""Words that whoever guesses a password for this site tries first."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

WORDS = ("llmcouncil", "llm council", "council", "administrator", "chairman", "openrouter")


class SiteWordsValidator:
    """Refuses passwords that are little more than what the site, its host or its parts are called."""

    def validate(self, password: str, user: Any = None) -> None:  # noqa: ARG002  # Django's signature
        """Raises ValidationError where fewer than six characters are left without those words."""
        left = password.lower()
        for word in sorted((*WORDS, *(urlsplit(settings.SITE_URL).hostname or "").split(".")), key=len, reverse=True):
            if len(word) > 3:
                left = left.replace(word, "")
        if len(left) < 6 and left != password.lower():
            raise ValidationError(_("This password is little more than what this site is called."), code="site_words")

    def get_help_text(self) -> str:
        """For forms that list the rules."""
        return _("Your password cannot be little more than what this site is called.")
