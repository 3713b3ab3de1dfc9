"""A browser in words a person knows, from what it says of itself."""

from django import template
from django.utils.translation import gettext as _

register = template.Library()

# In this order: most browsers claim to be several others as well.
NAMES = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@register.filter
def browser(user_agent: str) -> str:
    """Like "Firefox on Linux". A program that is no known browser is given as it names itself, cut at 60 characters."""
    name = next((name for mark, name in NAMES if mark in user_agent), "")
    if not name:
        return user_agent[:60] or _("Unknown")
    system = next((system for mark, system in SYSTEMS if mark in user_agent), "")
    return _("%(browser)s on %(system)s") % {"browser": name, "system": system} if system else name
