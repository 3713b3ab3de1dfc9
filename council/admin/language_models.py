"""The catalogue of models in the admin: what each takes and costs, and a test call."""

import asyncio
from decimal import Decimal
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from council import calls, capabilities
from council.admin.approving import decide
from council.admin.parts import DollarsField, SlugOnce, dollars
from council.core.values import Reply
from council.models import LanguageModel

TEST_AT_MOST = 5
SHOWN_CHARACTERS = 300


class LanguageModelForm(forms.ModelForm):
    """A model, its prices in dollars."""

    input_price = DollarsField(
        label=gettext_lazy("Input price"), help_text=gettext_lazy("Dollars a million input tokens. Empty: unknown.")
    )
    output_price = DollarsField(
        label=gettext_lazy("Output price"),
        help_text=gettext_lazy("Dollars a million output tokens, reasoning included. Empty: unknown."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("input_price", "output_price"):
            price = getattr(self.instance, name)
            if price is not None:
                self.initial[name] = Decimal(price) / 10**6


@admin.register(LanguageModel)
class LanguageModelAdmin(SlugOnce):
    """The catalogue of models."""

    form = LanguageModelForm
    list_display = ("name", "provider", "model_id", "price_in", "price_out", "context", "approval", "enabled")
    list_filter = ("approval", "provider", "enabled")
    list_select_related = ("provider",)
    search_fields = ("name", "model_id", "slug", "provider__name")
    actions = ("approve", "retire", "test_call")
    fieldsets = (
        (None, {"fields": ("name", "slug", "provider", "model_id", "enabled")}),
        (
            gettext_lazy("Approval"),
            {
                "fields": ("approval", "approval_note", "decided", "decided_by"),
                "description": gettext_lazy(
                    "A new model is proposed. It sits in no deliberation before somebody who may has approved it."
                ),
            },
        ),
        (
            gettext_lazy("Size and price"),
            {
                "fields": ("context", "max_output", "input_price", "output_price"),
                "description": gettext_lazy(
                    "Refreshing from the provider overwrites these where the provider tells them. Without prices a "
                    "call has no cost, unless the provider reports one."
                ),
            },
        ),
        (
            gettext_lazy("What it takes"),
            {
                "fields": (
                    "temperature",
                    "json_schema",
                    "usage_in_stream",
                    "images",
                    "max_tokens_field",
                    "effort",
                    "in_effect",
                ),
                "description": gettext_lazy(
                    "What is left open, here and below, is as the kind of provider has it. Refreshing from the "
                    "provider overwrites these, too, where the provider tells them."
                ),
            },
        ),
        (
            gettext_lazy("Patience"),
            {
                "fields": ("first_token_seconds", "between_tokens_seconds", "call_seconds"),
                "description": gettext_lazy("In seconds. What is not done by then is given up, and says so."),
            },
        ),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may not approve models sees what was decided."""
        own = ("decided", "decided_by", "in_effect")
        decision = () if self.has_approve_permission(request) else ("approval", "approval_note")
        return (*super().get_readonly_fields(request, obj), *own, *decision)

    def has_approve_permission(self, request: HttpRequest) -> bool:
        """A right of its own."""
        return bool(request.user.has_perm("council.approve_languagemodel"))

    def save_model(self, request: HttpRequest, obj: LanguageModel, form: Any, change: Any) -> None:
        """With who decided: what was approved before an exchange was another model."""
        exchanged = change and not {"model_id", "provider"}.isdisjoint(form.changed_data)
        if not self.has_approve_permission(request):
            if exchanged:
                obj.decide(LanguageModel.Approval.PROPOSED, request.user)
        elif exchanged or not {"approval", "approval_note"}.isdisjoint(form.changed_data):
            obj.decide(obj.approval, request.user)
        super().save_model(request, obj, form, change)

    @admin.display(description=gettext_lazy("in effect"))
    def in_effect(self, model: LanguageModel) -> str:
        """All of it as it holds, with what was left open. Before there is a provider the admin shows a dash."""
        words = (_("no"), _("yes"))
        named = ((model._meta.get_field(name), value) for name, value in capabilities.of(model)._asdict().items())
        said = ((column.verbose_name, words[value] if isinstance(value, bool) else value) for column, value in named)
        return "; ".join(f"{name}: {value}" for name, value in said)

    @admin.action(description=gettext_lazy("Approve"), permissions=["approve"])
    def approve(self, request: HttpRequest, queryset: QuerySet[LanguageModel]) -> None:
        """From now on they are asked where they sit."""
        self._decide(request, queryset, LanguageModel.Approval.APPROVED)

    @admin.action(description=gettext_lazy("Retire"), permissions=["approve"])
    def retire(self, request: HttpRequest, queryset: QuerySet[LanguageModel]) -> None:
        """From now on they are not asked, wherever they sit."""
        self._decide(request, queryset, LanguageModel.Approval.RETIRED)

    def _decide(
        self, request: HttpRequest, queryset: QuerySet[LanguageModel], approval: LanguageModel.Approval
    ) -> None:
        chosen = list(queryset.exclude(approval=approval))
        for model in chosen:
            with transaction.atomic():
                decide(request, [model], approval, note="")  # the note there was is about another decision
                # For Django's own history. The audit trail has it already, and passes over such a list.
                self.log_change(request, model, [{"changed": {"fields": ["approval", "note"]}}])
        done = ngettext("%(n)s model is %(now)s.", "%(n)s models are %(now)s.", len(chosen))
        words = {"n": len(chosen), "now": approval.label}
        self.message_user(request, done % words, messages.SUCCESS if chosen else messages.WARNING)

    @admin.display(description=gettext_lazy("$ per million in"), ordering="input_price")
    def price_in(self, model: LanguageModel) -> str | None:
        """The price of reading."""
        return dollars(model.input_price)

    @admin.display(description=gettext_lazy("$ per million out"), ordering="output_price")
    def price_out(self, model: LanguageModel) -> str | None:
        """The price of writing."""
        return dollars(model.output_price)

    @admin.action(description=gettext_lazy("Test call (asks each for one short sentence)"), permissions=["approve"])
    def test_call(self, request: HttpRequest, queryset: QuerySet[LanguageModel]) -> None:
        """Ask each chosen model for a sentence, all at once, and show what came back."""
        models = list(queryset.select_related("provider")[: TEST_AT_MOST + 1])
        if len(models) > TEST_AT_MOST:
            message = _("Choose at most %s models: each test is a real call that costs money.")
            self.message_user(request, message % TEST_AT_MOST, messages.ERROR)
            return
        for model, (reply, seconds) in zip(models, async_to_sync(_test)(models), strict=True):
            self.log_change(request, model, _("Asked for a test: %s") % (reply.outcome))
            words = {"model": model, "seconds": f"{seconds:.1f}", "text": reply.text.strip()[:SHOWN_CHARACTERS]}
            if not reply.error:
                self.message_user(request, _("%(model)s answered in %(seconds)s s: %(text)s") % words, messages.SUCCESS)
            elif reply.usable:
                text = _("%(model)s answered in %(seconds)s s: %(text)s (%(error)s)") % {**words, "error": reply.error}
                self.message_user(request, text, messages.WARNING)
            else:
                text = _("%(model)s failed after %(seconds)s s. %(error)s") % {**words, "error": reply.error}
                self.message_user(request, text, messages.ERROR)


async def _test(models: list[LanguageModel]) -> list[tuple[Reply, float]]:
    """The replies, and how many seconds each took."""
    loop = asyncio.get_running_loop()

    async def one(model: LanguageModel) -> tuple[Reply, float]:
        began = loop.time()
        return await calls.test_call(model), loop.time() - began

    return await asyncio.gather(*map(one, models))
