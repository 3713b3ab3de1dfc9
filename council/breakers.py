"""Which models are left alone because they failed too often: one breaker for each, in Postgres, for all workers.

A closed breaker costs a healthy call nothing: whether one is open is seen where the call's row is written, and what
counts is in the rows of calls themselves (`Call.fault`). They are looked at when a call has failed. What is wrong with
the request or the key, a refusal and a filter never count, nor does what was stopped or lost.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from council.call_rows import TABLE, CallEnd
from council.core.errors import LeftAlone
from council.core.values import Outcome
from council.models import Breaker, Call
from council.plans import ModelSnapshot
from council.providers.policy import Policy

logger = logging.getLogger(__name__)

_BREAKER = Breaker._meta.db_table

# Failures in a row that lie further apart than an hour say little about now, and looking for them would take long.
_OPEN = f"""
    WITH counted AS (
        SELECT fault, ended, row_number() OVER (ORDER BY ended DESC, id DESC) AS back
        FROM {TABLE}
        WHERE language_model_id = %(model)s AND fault IS NOT NULL AND queued > now() - interval '1 hour'
            AND ended > coalesce((SELECT since FROM {_BREAKER} WHERE language_model_id = %(model)s), '-infinity')
    ), told AS (
        SELECT count(*) FILTER (WHERE fault AND back <= %(failures)s) >= %(failures)s
            OR count(*) FILTER (WHERE minute) >= %(least)s
            AND count(*) FILTER (WHERE minute AND fault) >= %(share)s * count(*) FILTER (WHERE minute) AS too_often
        FROM (SELECT *, ended > now() - interval '1 minute' AS minute FROM counted) AS counted
    )
    INSERT INTO {_BREAKER} (language_model_id, state, since, opened, until, error)
    SELECT %(model)s, '{Breaker.State.OPEN}', now(), now(), now() + %(open)s * interval '1 second', %(error)s
    FROM told WHERE too_often
    ON CONFLICT (language_model_id) DO UPDATE
    SET state = excluded.state, opened = excluded.opened, until = excluded.until, error = excluded.error
    WHERE {_BREAKER}.state = '{Breaker.State.CLOSED}'
"""  # noqa: S608  # own names


def let_through(model: ModelSnapshot, call: int, policy: Policy) -> bool:
    """Whether this call is the one that finds out how the model does; False: the model is not left alone.

    Raises LeftAlone, with words. For as long as a call finds out, none else does; should its process die, another may
    once the call is seen to be lost, or once it could not go on any more.
    """
    with transaction.atomic():
        found = Breaker.objects.select_related("probe").select_for_update(of=("self",))
        breaker = found.filter(pk=model.pk).exclude(state=Breaker.State.CLOSED).first()
        if breaker is None:
            return False
        now = timezone.now()
        over = breaker.until is None or breaker.until <= now
        # Its own where it was let through before, and the connection broke before anybody heard of it.
        if over or (breaker.probe and (breaker.probe.pk == call or breaker.probe.state == Call.State.ENDED)):
            breaker.state, breaker.probe_id = Breaker.State.HALF_OPEN, call
            breaker.until = now + timedelta(seconds=model.call_seconds + policy.connect)
            breaker.save()
            return True
    raise LeftAlone(
        _("%(model)s failed too often just now and is left alone for a moment. The last time: %(error)s")
        % {"model": model.name, "error": breaker.error}
    )


def heard(ends: Iterable[CallEnd]) -> None:
    """Calls have ended, and their rows say so: open and close what that asks for."""
    for end in ends:
        if end.probe:
            _found_out(end)
        elif end.attempt.fault:
            _count(end)


def _count(end: CallEnd) -> None:
    given = {
        "model": end.model,
        "failures": end.policy.failures,
        "least": end.policy.least_calls,
        "share": end.policy.share,
        "open": end.policy.open_for,
        "error": end.attempt.error,
    }
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, given)
        if cursor.rowcount:
            logger.warning("Model %s failed too often and is left alone", end.model)


def _found_out(end: CallEnd) -> None:
    mine = Breaker.objects.filter(pk=end.model, state=Breaker.State.HALF_OPEN, probe=end.call)
    now = timezone.now()
    if end.attempt.fault:
        until = now + timedelta(seconds=end.policy.open_for)
        mine.update(state=Breaker.State.OPEN, until=until, probe=None, error=end.attempt.error)
    elif end.attempt.outcome is Outcome.CANCELLED or end.attempt.unknown or not end.attempt.sent:
        mine.update(state=Breaker.State.OPEN, until=now, probe=None)  # it found nothing out: the next may
    else:
        mine.update(state=Breaker.State.CLOSED, since=now, until=None, probe=None)
        logger.info("Model %s is well again", end.model)


def reset(chosen: Iterable[Breaker]) -> int:
    """Close these; what failed until now does not count any more. Returns how many were open."""
    open_ = Breaker.objects.filter(pk__in=[each.pk for each in chosen]).exclude(state=Breaker.State.CLOSED)
    return open_.update(state=Breaker.State.CLOSED, since=timezone.now(), until=None, probe=None)
