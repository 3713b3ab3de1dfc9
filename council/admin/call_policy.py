"""The rules for calls in the admin."""

from django.contrib import admin
from django.utils.translation import gettext_lazy

from accounts.admin.one_row import OneRow
from council.models import CallPolicy


@admin.register(CallPolicy)
class CallPolicyAdmin(OneRow):
    """What the rules are, in groups."""

    fieldsets = (
        (
            gettext_lazy("When a call fails"),
            {
                "fields": ("attempts", "longest_wait_seconds", "repeat_after_timeout", "connect_seconds"),
                "description": gettext_lazy(
                    "These hold for every call to every provider, from the next call on. How long a model may think "
                    "and write is set with each model, under Patience; how long a stage may take, and which models "
                    "stand in, with each council; how many calls go out at a time, with each provider. Once a part of "
                    "an answer has come, a call is never repeated: what came is kept and marked as cut off."
                ),
            },
        ),
        (
            gettext_lazy("When a model is left alone"),
            {
                "fields": ("breaker_failures", "breaker_percent", "breaker_least_calls", "breaker_open_seconds"),
                "description": gettext_lazy(
                    "A model that fails again and again is not asked for a while, so that nobody waits for it in vain. "
                    "A wrong key, missing credit, a rejected request, a refusal and a content filter do not count. "
                    "Breakers, in the list of the council, shows which models are left alone just now."
                ),
            },
        ),
    )
