"""Whether the site has been set up."""

from django import template

from accounts import setup

register = template.Library()
register.simple_tag(setup.done, name="set_up")
