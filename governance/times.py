"""The site's own times, and the one setting that shortens all of them, for tests."""

from django.conf import settings


def hurried(seconds: float) -> float:
    """A time in seconds, divided by HURRY: at 1 as it stands in the code."""
    return seconds / float(settings.HURRY)
