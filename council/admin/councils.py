"""Councils in the admin: who sits in each, whether it can be asked, and which is the default."""

# ruff: noqa: ARG002  # Django's signatures

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from council import capabilities, plans, rules
from council.admin.parts import SlugOnce
from council.models import Council, Fallback, LanguageModel, Seat


class SeatFormSet(BaseInlineFormSet):
    """A line-up: at least two members that can be asked, and one chairman."""

    def add_fields(self, form: Any, index: int | None) -> None:
        """With a name for the box that removes a seat."""
        super().add_fields(form, index)
        if "DELETE" in form.fields:
            form.fields["DELETE"].widget.attrs["aria-label"] = _("Remove")

    def clean(self) -> None:
        """Raises ValidationError with what is missing. A council that is switched off may be incomplete."""
        super().clean()
        if any(self.errors):
            return
        seats = [form.cleaned_data for form in self.forms if form.cleaned_data and form not in self.deleted_forms]
        members = [seat["language_model"] for seat in seats if seat["role"] == Seat.Role.MEMBER]
        chairmen = [seat["language_model"] for seat in seats if seat["role"] == Seat.Role.CHAIRMAN]
        if len(chairmen) > 1:
            raise ValidationError(
                _("A council has one chairman; this one has %s. Make the others members, or remove them.")
                % len(chairmen)
            )
        if not self.instance.enabled:
            return
        wrong = rules.missing(members, chairmen)
        if wrong:
            raise ValidationError([*wrong.values(), _("To keep it as it is, switch the council off.")])

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002  # Django's signature
        """Whoever leaves the chair does so before another takes it."""
        Seat.objects.filter(
            pk__in=[form.instance.pk for form in self.initial_forms if form.initial["role"] == Seat.Role.CHAIRMAN]
        ).exclude(
            pk__in=[
                form.instance.pk
                for form in self.initial_forms
                if form not in self.deleted_forms and form.cleaned_data["role"] == Seat.Role.CHAIRMAN
            ]
        ).update(role=Seat.Role.MEMBER)
        return super().save(commit)


class SeatedForm(forms.ModelForm):
    """A seat, or a fallback model: whoever is put there is approved. One that was retired since may stay."""

    def clean_language_model(self) -> LanguageModel:
        """Raises ValidationError."""
        model: LanguageModel = self.cleaned_data["language_model"]
        if "language_model" in self.changed_data and model.approval != LanguageModel.Approval.APPROVED:
            raise ValidationError(
                _("%(model)s is %(approval)s. Have it approved first, in the list of models.")
                % {"model": model, "approval": model.get_approval_display()}
            )
        return model


class SeatInline(admin.TabularInline):
    """The line-up of a council."""

    model = Seat
    form = SeatedForm
    formset = SeatFormSet
    fields = ("role", "position", "language_model", "name", "temperature", "system_prompt")
    ordering = ("role", "position", "pk")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Seat]:
        """Members in their order, the chairman last."""
        return super().get_queryset(request).order_by("-role", "position", "pk")

    def get_extra(self, request: HttpRequest, obj: Council | None = None, **kwargs: Any) -> int:
        """A new council begins with rows for three members and a chairman."""
        return 0 if obj else 4

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Models with their providers, read at once."""
        if db_field.name == "language_model":
            kwargs["queryset"] = LanguageModel.objects.select_related("provider")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A row of a table has little room, and a seat has much to say."""
        match db_field.name:
            case "name":
                kwargs["widget"] = forms.TextInput(attrs={"size": 14})
            case "temperature":
                kwargs["widget"] = forms.NumberInput(attrs={"class": "vIntegerField", "step": "any"})
            case "system_prompt":
                kwargs["widget"] = forms.Textarea(attrs={"rows": 3, "cols": 28})
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        # The heads of a table's columns are no labels.
        field.widget.attrs["aria-label"] = str(field.label)
        if db_field.name == "language_model":
            # The catalogue is edited in its own place.
            field.widget.can_add_related = field.widget.can_change_related = False
            field.widget.can_delete_related = field.widget.can_view_related = False
        return field


class FallbackInline(admin.TabularInline):
    """The models that are asked where a seat's own fails."""

    model = Fallback
    form = SeatedForm
    fields = ("role", "position", "language_model")
    extra = 0
    verbose_name_plural = gettext_lazy(
        "fallback models: asked, in their order, in place of a member or a chairman whose own model failed"
    )

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Models with their providers, read at once."""
        if db_field.name == "language_model":
            kwargs["queryset"] = LanguageModel.objects.select_related("provider")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The catalogue is edited in its own place."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "language_model":
            field.widget.can_add_related = field.widget.can_change_related = False
            field.widget.can_delete_related = field.widget.can_view_related = False
        return field


def _loses_temperature(seat: Seat) -> bool:
    return seat.temperature is not None and not capabilities.of(seat.language_model).temperature


class CouncilForm(forms.ModelForm):
    """A council. Making it the default takes that from the one that was."""

    def _get_validation_exclusions(self) -> set[str]:
        # That there is one default is seen to by CouncilAdmin.save_model; checked here, the second would be refused.
        return super()._get_validation_exclusions() | {"default"}

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError for a default that nobody could use."""
        given = super().clean() or self.cleaned_data
        if given.get("default") and not given.get("enabled"):
            self.add_error("default", _("The default council must be enabled."))
        return given


@admin.register(Council)
class CouncilAdmin(SlugOnce):
    """Line-ups."""

    form = CouncilForm
    inlines = (SeatInline, FallbackInline)
    list_display = ("name", "members", "chairman", "usable", "enabled", "default")
    list_filter = ("enabled", "default", "groups")
    search_fields = ("name", "slug", "description", "seats__name", "seats__language_model__name")
    formfield_overrides = {models.ManyToManyField: {"widget": forms.CheckboxSelectMultiple}}
    fieldsets = (
        (None, {"fields": ("name", "slug", "description", "enabled", "default", "groups")}),
        (
            gettext_lazy("How much may be written"),
            {
                "fields": ("answer_tokens", "review_tokens", "synthesis_tokens"),
                "description": gettext_lazy("In tokens. A model's own limit and room come before these."),
            },
        ),
        (
            gettext_lazy("How long to wait"),
            {
                "fields": ("quorum", "grace_seconds", "stage_seconds"),
                "description": gettext_lazy(
                    "For the whole council. How long one call may take is a matter of its model."
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Council]:
        """With the seats."""
        return super().get_queryset(request).prefetch_related("seats__language_model")

    def get_formset_kwargs(self, request: HttpRequest, obj: Any, inline: Any, prefix: str) -> dict[str, Any]:
        """A new council's rows come with roles and places filled in."""
        kwargs = super().get_formset_kwargs(request, obj, inline, prefix)
        if isinstance(inline, SeatInline) and obj.pk is None:
            kwargs["initial"] = [{"role": Seat.Role.MEMBER, "position": place} for place in range(3)]
            kwargs["initial"].append({"role": Seat.Role.CHAIRMAN, "position": 3})
        return kwargs

    def save_model(self, request: HttpRequest, obj: Council, form: Any, change: bool) -> None:  # noqa: FBT001  # Django's signature
        """Save it, and take the default from the other one first. Within the transaction of the admin's view."""
        before = list(Council.objects.filter(default=True).exclude(pk=obj.pk)) if obj.default else []
        for other in before:
            other.default = False
            other.save(update_fields=["default"])
        request.default_before = before  # type: ignore[attr-defined]  # of our own
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001  # Django's signature
        """Then tell of what a model is not sent, and of the default that was: the audit trail comes last."""
        super().save_related(request, form, formsets, change)
        seats = form.instance.seats.select_related("language_model__provider")
        for name in sorted({each.language_model.name for each in seats if _loses_temperature(each)}):
            said = _(
                "%s is asked without the temperature of its seat. If it takes one, say so on the model's own page."
            )
            self.message_user(request, said % name, messages.WARNING)
        for other in request.default_before:  # type: ignore[attr-defined]  # of our own
            self.log_change(request, other, _("No longer the default: %s is.") % form.instance.slug)

    @admin.display(description=gettext_lazy("members"))
    def members(self, council: Council) -> str:
        """Who answers and reviews."""
        return ", ".join(str(seat) for seat in council.seats.all() if seat.role == Seat.Role.MEMBER)

    @admin.display(description=gettext_lazy("chairman"))
    def chairman(self, council: Council) -> str | None:
        """Who writes the council's answer."""
        return next((str(seat) for seat in council.seats.all() if seat.role == Seat.Role.CHAIRMAN), None)

    @admin.display(description=gettext_lazy("usable"), boolean=True)
    def usable(self, council: Council) -> bool:
        """It can be asked just now: enabled, and so are enough models and their providers."""
        try:
            plans.line_up(council)
        except plans.NotReady:
            return False
        return council.enabled
