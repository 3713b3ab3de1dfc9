"""Approvals that are decided outside of a model's own form, in the audit trail: with what was before and after."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from council.models import LanguageModel
from governance import audit
from governance.audit import Kind, Thing


def decide(request: HttpRequest, models: Sequence[LanguageModel], approval: str, note: str | None = None) -> None:
    """Decide about stored models in this person's name. `note`: in place of the one that they have; None: it stays."""
    before = [_decision(model) for model in models]
    with transaction.atomic():
        for model in models:
            model.decide(approval, request.user, note)
            model.save(update_fields=["approval", "approval_note", "decided", "decided_by"])
        # Last: who holds the audit trail waits for nobody else's rows.
        for model, was in zip(models, before, strict=True):
            changes = audit.differences(was, _decision(model))
            audit.record(Kind.CHANGED, request.user.actor, Thing(model._meta.label_lower, model.slug), changes=changes)


def _decision(model: LanguageModel) -> dict[str, Any]:
    """As the trail tells of it where a form is saved: people are pseudonyms."""
    return {
        "approval": model.approval,
        "approval_note": model.approval_note,
        "decided": model.decided and model.decided.isoformat(),
        "decided_by": model.decided_by and str(model.decided_by.actor),
    }
