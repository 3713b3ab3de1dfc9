"""Whether the site has been set up, and who may come in."""

from django import template

from accounts import setup
from accounts.models import SiteSettings

register = template.Library()
register.simple_tag(setup.done, name="set_up")


@register.simple_tag
def sign_up_open() -> bool:
    """Whether people may make an account without being invited."""
    return SiteSettings.current().sign_up_open
