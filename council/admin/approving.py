"""Approvals that are decided outside of a model's own form, in the audit trail: with what was before and after."""

from typing import Any

from django.db import transaction
from django.http import HttpRequest

from council.models import LanguageModel
from governance import audit
from governance.audit import Kind, Thing


def decide(request: HttpRequest, model: LanguageModel, approval: str, note: str | None = None) -> None:
    """Decide about a stored model in this person's name. `note`: in place of the one that it has; None: it stays."""
    before = _decision(model)
    with transaction.atomic():
        model.decide(approval, request.user, note)
        model.save(update_fields=["approval", "approval_note", "decided", "decided_by"])
        changes = audit.differences(before, _decision(model))
        audit.record(Kind.CHANGED, request.user.actor, Thing(model._meta.label_lower, model.slug), changes=changes)


def _decision(model: LanguageModel) -> dict[str, Any]:
    """As the trail tells of it where a form is saved: people are pseudonyms."""
    return {
        "approval": model.approval,
        "approval_note": model.approval_note,
        "decided": model.decided and model.decided.isoformat(),
        "decided_by": model.decided_by and str(model.decided_by.actor),
    }
