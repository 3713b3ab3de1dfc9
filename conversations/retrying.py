"""One answer, one review, or the council's answer of a conversation's last turn, tried again."""

from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from conversations import asking, jobs
from conversations.asking import Refused
from conversations.models import Conversation, Turn
from conversations.naming import slot_from, slot_id
from council import claiming, trail
from council.core.errors import NotOffered, UnderWay
from council.models import Council
from governance import audit, rows
from governance.audit import Kind

logger = structlog.get_logger(__name__)


def retry(conversation: Conversation, typed: str, by: UUID | None = None) -> str:
    """Have a worker try one slot of the last turn again; `typed` says which, as buttons do.

    `by`: who does it, in the audit trail. Returns the id that it has on the page. Raises Refused: something is under
    way, there is no such slot, it is complete and up to date, it is more than its owner may, or the turn is also part
    of a copy, in which nothing must change.
    """
    slot = slot_from(typed)
    turn = conversation.turns.order_by("created", "id").last()
    if slot is None or turn is None:
        raise Refused(_("There is nothing to be tried again here. Reload the page to see what there is."))
    asking.often(conversation.owner)
    council = turn.deliberation.council
    if council and not Council.objects.usable_by(conversation.owner).filter(pk=council.pk).exists():
        raise Refused(
            _("You may not ask this council any more. Ask another one."), rule="no such council for this person"
        )
    try:
        with transaction.atomic():
            rows.execute(asking.room(conversation.owner))
            claiming.reopen(turn.deliberation_id, conversation.pk, slot)
            # Once it is locked: a copy that is just being made waits for this, or this for it.
            if Turn.objects.filter(deliberation=turn.deliberation_id).exclude(pk=turn.pk).exists():
                raise Refused(_("This turn is part of a copy too, so it stays as it is. Ask again instead."))
            jobs.queue(jobs.Arguments(turn.deliberation_id, conversation.pk))
            audit.record(Kind.TRIED_AGAIN, by, trail.thing(turn.deliberation_id), slot=typed)
    except rows.NotThere as error:
        raise asking.no_room() from error
    except (UnderWay, IntegrityError) as error:
        raise Refused(
            _("The council is still at work here. Wait for its answer or stop it, then try again."), conflict=True
        ) from error
    except NotOffered as error:
        raise Refused(_("There is nothing to be tried again here. Reload the page to see what there is.")) from error
    structlog.contextvars.bind_contextvars(deliberation=str(turn.deliberation_id))
    logger.info("Trying again", conversation=str(conversation.pk), slot=typed)
    return slot_id(turn.deliberation_id, slot)
