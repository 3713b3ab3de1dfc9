"""The rules for calls, and what is remembered of models that fail and of calls that wait for their turn."""

from functools import lru_cache

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from council.models.deliberations import Call
from council.models.rosters import LanguageModel, Provider
from council.providers.policy import Policy

_DEFAULT = Policy()


class CallPolicy(models.Model):
    """The rules for calls to all providers. There is one row at most; without it, the defaults hold."""

    attempts = models.PositiveSmallIntegerField(
        _("attempts"),
        default=_DEFAULT.attempts,
        validators=[MinValueValidator(1), MaxValueValidator(10)],
        help_text=_(
            "How often a model is asked, where the call fails before anything of an answer has come: the provider "
            "cannot be reached, is overloaded (HTTP 429), or fails on its side (HTTP 5xx). Between two attempts lie "
            "half a second to eight seconds. 1: never a second time."
        ),
    )
    longest_wait_seconds = models.PositiveIntegerField(
        _("longest wait, in seconds"),
        default=int(_DEFAULT.longest_wait),
        validators=[MaxValueValidator(3600)],
        help_text=_(
            "A provider that has too much to do may say how long to wait (Retry-After). That is obeyed up to this; "
            "where it asks for more, the call fails at once."
        ),
    )
    repeat_after_timeout = models.BooleanField(
        _("ask again after silence"),
        default=bool(_DEFAULT.repeats),
        help_text=_(
            "A call that was sent, and of which nothing came in time or the connection was closed without an answer, "
            "is sent once more. The provider may have carried out the first as well, and bill both."
        ),
    )
    connect_seconds = models.PositiveIntegerField(
        _("time to connect, in seconds"),
        default=int(_DEFAULT.connect),
        validators=[MinValueValidator(1), MaxValueValidator(300)],
        help_text=_("How long a connection to a provider may take before it counts as not reachable."),
    )
    breaker_failures = models.PositiveSmallIntegerField(
        _("failures in a row"),
        default=_DEFAULT.failures,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text=_("After so many failed calls in a row a model is left alone for a while."),
    )
    breaker_percent = models.PositiveSmallIntegerField(
        _("share of failures, in percent"),
        default=int(_DEFAULT.share * 100),
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text=_("It is left alone as well where so many of the calls of the last minute failed."),
    )
    breaker_least_calls = models.PositiveSmallIntegerField(
        _("calls that make a share"),
        default=_DEFAULT.least_calls,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text=_("The share counts only where there were at least so many calls in that minute."),
    )
    breaker_open_seconds = models.PositiveIntegerField(
        _("left alone for, in seconds"),
        default=int(_DEFAULT.open_for),
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
        help_text=_(
            "After this a single call finds out whether the model is well again. Meanwhile other calls to it fail at "
            "once, and the council's fallback models are asked instead."
        ),
    )

    class Meta:
        verbose_name = verbose_name_plural = _("rules for calls")
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="one_row_of_rules_for_calls")]

    def __str__(self) -> str:
        return str(_("Rules for calls"))

    def values(self) -> Policy:
        """The rules as the engine's plain values; the same ones again while nothing is changed."""
        return _policy(
            self.attempts,
            self.longest_wait_seconds,
            int(self.repeat_after_timeout),
            self.connect_seconds,
            self.breaker_failures,
            self.breaker_percent,
            self.breaker_least_calls,
            self.breaker_open_seconds,
        )


@lru_cache(maxsize=10)
def _policy(
    attempts: int, wait: int, repeats: int, connect: int, failures: int, percent: int, least: int, seconds: int
) -> Policy:
    return Policy(attempts, float(wait), repeats, float(connect), failures, percent / 100, least, float(seconds))


class Breaker(models.Model):
    """Whether a model is left alone, for all workers. There is a row once it has failed too often; see `breakers`."""

    class State(models.TextChoices):
        CLOSED = "closed", _("closed: it is asked")
        OPEN = "open", _("open: it is left alone")
        HALF_OPEN = "half_open", _("half open: one call finds out")

    language_model = models.OneToOneField(
        LanguageModel, primary_key=True, on_delete=models.CASCADE, related_name="breaker"
    )
    state = models.CharField(max_length=10, choices=State, default=State.CLOSED)
    since = models.DateTimeField(
        default=timezone.now, help_text=_("When it was last closed. Calls that had ended by then do not count.")
    )
    opened = models.DateTimeField(null=True)
    until = models.DateTimeField(null=True, help_text=_("When the next call may find out whether the model is well."))
    probe = models.ForeignKey(Call, null=True, on_delete=models.SET_NULL, related_name="+")
    error = models.TextField(blank=True, help_text=_("Of the call that opened it."))

    class Meta:
        ordering = ("-opened",)

    def __str__(self) -> str:
        return str(self.language_model)


class Place(models.Model):
    """A call's place among those that one provider answers at the same time, or in the line for it; see `places`."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="places")
    seen = models.DateTimeField(help_text=_("When the process that has it last gave a sign of life."))
