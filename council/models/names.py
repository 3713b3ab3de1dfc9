"""What a name of the roster may hold."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from council.core.values import CONTROLS


def plain(name: str) -> None:
    """One line that shows what it is, and leaves what stands beside it alone. Raises ValidationError."""
    if CONTROLS.search(name) or name.splitlines() not in ([], [name]):
        raise ValidationError(
            _("This holds characters that are not seen, or that turn the text around them. Type it anew, by hand.")
        )
