"""The roster in the admin: providers, models and councils; and a look at deliberations and calls, without content.

What administrators type is checked here; what a model or a provider says is shown as text and never as markup.
"""

# ruff: noqa: ARG002  # Django's signatures

import asyncio
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db.models import Count, F, Model, OuterRef, Q, QuerySet, Subquery, Sum
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from council import calls, catalogue, plans
from council.core.values import Reply
from council.models import Call, Council, Deliberation, LanguageModel, Provider, Seat

TEST_AT_MOST = 5
SHOWN_CHARACTERS = 300


class SlugOnce(admin.ModelAdmin):
    """A slug follows the name while a row is new, and stays what it is from then on."""

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """The slug too, once files and commands may know it."""
        return (*super().get_readonly_fields(request, obj), *(("slug",) if obj else ()))

    def get_prepopulated_fields(self, request: HttpRequest, obj: Model | None = None) -> dict[str, Any]:
        """The slug of a new row."""
        return {} if obj else {"slug": ("name",)}


class ReadOnly(admin.ModelAdmin):
    """Rows that only the council itself writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes one here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes one here: conversations go with all that is theirs."""
        return False


def dollars(micro: int | None) -> str | None:
    """Micro-dollars as people write them: $1.25, $0.0375."""
    return None if micro is None else f"${Decimal(micro) / 10**6:,f}"


class ProviderForm(forms.ModelForm):
    """A provider. The key goes in and never comes out: what is stored is known by its last four characters alone."""

    # Not the model's own field, which takes no host without a dot, such as that of a container.
    address = forms.CharField(
        label=gettext_lazy("Base address"),
        required=False,
        max_length=200,
        help_text=Provider._meta.get_field("base_url").help_text,
        widget=AdminTextInputWidget,
    )
    new_key = forms.CharField(
        label=gettext_lazy("API key"),
        required=False,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )
    remove_key = forms.BooleanField(label=gettext_lazy("Remove the stored key"), required=False)

    class Meta:
        model = Provider
        fields = ("name", "slug", "kind", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["address"].initial = self.instance.base_url
        self.fields["new_key"].help_text, self.has_key = self._stored()
        self.fields["remove_key"].disabled = not self.has_key

    def _stored(self) -> tuple[str, bool]:
        """What to say of the stored key, and whether there is one."""
        try:
            key = self.instance.api_key
        except ImproperlyConfigured:
            return _("A key is set that cannot be read any more. Enter it again, or put its FIELD_KEYS back."), True
        if not key:
            return _("None is set. Local servers often need none."), False
        # Of a short one four characters would tell too much.
        end = _(", ends in …%(end)s") % {"end": key[-4:]} if len(key) >= 16 else ""
        return _("Set%(end)s. It is not shown; leave this empty to keep it.") % {"end": end}, True

    def clean_address(self) -> str:
        """An address that can be asked, without a slash at its end. Raises ValidationError."""
        address: str = self.cleaned_data["address"].rstrip("/")
        if not address:
            return ""
        try:
            parts = urlsplit(address)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and address.isprintable()
            httpx.URL(address)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable or " " in address:
            raise ValidationError(_("Enter an address that begins with http:// or https:// and names a host."))
        if "@" in parts.netloc:
            raise ValidationError(_("Put no user name or password into the address: the key has a field of its own."))
        if parts.query or parts.fragment:
            raise ValidationError(_("The address must end with its path: no “?” and no “#”."))
        return address

    def clean_new_key(self) -> str:
        """A key that a header can carry. Raises ValidationError, which does not repeat it."""
        key: str = self.cleaned_data["new_key"]
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValidationError(_("This holds characters that no key has. Copy the key again, and nothing with it."))
        return key

    def clean(self) -> dict[str, Any]:
        """An address where one is needed; and a stored key is not sent to a host it was not entered for."""
        given = super().clean() or self.cleaned_data
        new_key, remove, address = given.get("new_key"), given.get("remove_key"), given.get("address")
        if address == "" and given.get("kind") != Provider.Kind.PRACTICE:
            self.add_error("address", _("A provider needs an address. Only the practice model has none."))
        if new_key and remove:
            self.add_error("remove_key", _("Either enter a key or remove the stored one."))
        elif address and self.has_key and not (new_key or remove) and _host(address) != _host(self.instance.base_url):
            self.add_error(
                "new_key",
                _("This is another host than before. Enter the key again, so that it goes there knowingly."),
            )
        return given

    def save(self, commit: bool = True) -> Provider:  # noqa: FBT001, FBT002  # Django's signature
        """Put the address and the key in place."""
        self.instance.base_url = self.cleaned_data["address"]
        if self.cleaned_data["new_key"]:
            self.instance.api_key = self.cleaned_data["new_key"]
        elif self.cleaned_data["remove_key"]:
            self.instance.api_key = ""
        return super().save(commit)


def _host(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.lower()


@admin.register(Provider)
class ProviderAdmin(SlugOnce):
    """Who serves models."""

    form = ProviderForm
    list_display = ("name", "kind", "base_url", "has_key", "models", "enabled")
    list_filter = ("enabled", "kind")
    search_fields = ("name", "slug", "base_url")
    actions = ("refresh_models",)

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        """Grouped; a new provider has no key to remove."""
        key = ("new_key", "remove_key") if obj else ("new_key",)
        return (
            (None, {"fields": ("name", "slug", "kind", "enabled")}),
            (
                _("Where it is"),
                {
                    "fields": ("address", *key),
                    "description": _(
                        "The key is stored encrypted and sent to this address alone. To fill in names, prices and "
                        "context sizes of this provider's models, choose “Refresh models” in the list of providers."
                    ),
                },
            ),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        """Without the key, so that a list can be shown even where a key cannot be read."""
        return (
            super()
            .get_queryset(request)
            .defer("api_key")
            .annotate(key_set=~Q(api_key=""), model_count=Count("language_models"))
        )

    @admin.display(description=gettext_lazy("key"), boolean=True, ordering="key_set")
    def has_key(self, provider: Any) -> bool:
        """Whether a key is stored."""
        return bool(provider.key_set)

    @admin.display(description=gettext_lazy("models"), ordering="model_count")
    def models(self, provider: Any) -> int:
        """How many of its models are in the catalogue."""
        return int(provider.model_count)

    @admin.action(
        description=gettext_lazy("Refresh models from the provider (overwrites names, context sizes and prices)"),
        permissions=["change"],
    )
    def refresh_models(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        """Ask each provider for its list of models, and say what changed."""
        for provider in queryset:
            try:
                done = catalogue.refresh(provider)
            except (catalogue.NoCatalogue, ImproperlyConfigured) as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            said = ngettext("%(name)s lists %(n)s model.", "%(name)s lists %(n)s models.", done.offered) % {
                "name": provider.name,
                "n": f"{done.offered:,}",
            }
            changed = _("Changed here: %s.") % ", ".join(done.updated) if done.updated else _("Nothing changed here.")
            self.message_user(request, f"{said} {changed}", messages.SUCCESS)
            if done.missing:
                gone = _("%(name)s no longer lists %(ids)s. Calls to them may fail.")
                self.message_user(
                    request, gone % {"name": provider.name, "ids": ", ".join(done.missing)}, messages.WARNING
                )


class DollarsField(forms.DecimalField):
    """Dollars a million tokens, stored as micro-dollars."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, min_value=0, max_value=1_000_000, decimal_places=6, **options)

    def clean(self, value: Any) -> Any:
        """Micro-dollars, or None."""
        price = super().clean(value)
        return None if price is None else int(price * 10**6)


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
    list_display = ("name", "provider", "model_id", "price_in", "price_out", "context", "enabled")
    list_filter = ("provider", "enabled")
    list_select_related = ("provider",)
    search_fields = ("name", "model_id", "slug", "provider__name")
    actions = ("test_call",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "provider", "model_id", "enabled")}),
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
                )
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

    @admin.display(description=gettext_lazy("$ per million in"), ordering="input_price")
    def price_in(self, model: LanguageModel) -> str | None:
        """The price of reading."""
        return dollars(model.input_price)

    @admin.display(description=gettext_lazy("$ per million out"), ordering="output_price")
    def price_out(self, model: LanguageModel) -> str | None:
        """The price of writing."""
        return dollars(model.output_price)

    @admin.action(description=gettext_lazy("Test call (asks each for one short sentence)"), permissions=["change"])
    def test_call(self, request: HttpRequest, queryset: QuerySet[LanguageModel]) -> None:
        """Ask each chosen model for a sentence, all at once, and show what came back."""
        models = list(queryset.select_related("provider")[: TEST_AT_MOST + 1])
        if len(models) > TEST_AT_MOST:
            message = _("Choose at most %s models: each test is a real call that costs money.")
            self.message_user(request, message % TEST_AT_MOST, messages.ERROR)
            return
        for model, (reply, seconds) in zip(models, async_to_sync(_test)(models), strict=True):
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


class SeatFormSet(BaseInlineFormSet):
    """A line-up: at least two members that can be asked, and one chairman."""

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
        wrong = []
        usable = sum(model.usable for model in members)
        if usable < plans.MEMBERS_AT_LEAST:
            wrong.append(
                _(
                    "A council needs at least two members whose model and provider are enabled; of the members here "
                    "that is so for %(usable)s of %(all)s."
                )
                % {"usable": usable, "all": len(members)}
            )
        if not chairmen:
            wrong.append(_("A council needs a chairman. Add a seat with that role."))
        elif not chairmen[0].usable:
            wrong.append(
                _("The chairman's model, %s, is switched off, or its provider is. Choose another.") % chairmen[0]
            )
        if wrong:
            raise ValidationError([*wrong, _("To keep it as it is, switch the council off.")])

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


class SeatInline(admin.TabularInline):
    """The line-up of a council."""

    model = Seat
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
        if db_field.name == "language_model":
            # The catalogue is edited in its own place.
            field.widget.can_add_related = field.widget.can_change_related = False
            field.widget.can_delete_related = field.widget.can_view_related = False
        return field


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
    inlines = (SeatInline,)
    list_display = ("name", "members", "chairman", "usable", "enabled", "default")
    list_filter = ("enabled", "default", "groups")
    search_fields = ("name", "slug", "description", "seats__name", "seats__language_model__name")
    filter_horizontal = ("groups",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "description", "enabled", "default", "groups")}),
        (
            gettext_lazy("How much may be written"),
            {
                "fields": ("answer_tokens", "review_tokens", "synthesis_tokens"),
                "description": gettext_lazy("In tokens. A model's own limit and room come before these."),
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
        if obj.default:
            Council.objects.filter(default=True).exclude(pk=obj.pk).update(default=False)
        super().save_model(request, obj, form, change)

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


@admin.register(Deliberation)
class DeliberationAdmin(ReadOnly):
    """What councils are and were busy with. Never what was asked or answered."""

    list_display = ("id", "council_name", "mode", "status", "stage", "created", "seconds", "cost")
    list_filter = ("status", "mode", "practice", "created")
    search_fields = ("=id", "council_name")
    actions = ("stop",)
    fields = (
        "id",
        "council_name",
        "mode",
        "practice",
        "status",
        "stage",
        "reason",
        "created",
        "started",
        "finished",
        "seconds",
        "cost",
        "attempt",
        "cancel_requested",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deliberation]:
        """With the sum of the costs of its calls, and without what was asked."""
        spent = Call.objects.filter(deliberation=OuterRef("pk")).order_by().values("deliberation")
        return (
            super()
            .get_queryset(request)
            .defer("plan", "standings")
            .annotate(spent=Subquery(spent.annotate(sum=Sum("cost")).values("sum")))
        )

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Who may change deliberations elsewhere may stop them here."""
        return request.user.has_perm("council.change_deliberation")

    @admin.display(description=gettext_lazy("seconds"))
    def seconds(self, deliberation: Deliberation) -> str | None:
        """From the question to the end."""
        return None if deliberation.elapsed is None else f"{deliberation.elapsed.total_seconds():.1f}"

    @admin.display(description=gettext_lazy("cost"), ordering="spent")
    def cost(self, deliberation: Any) -> str | None:
        """Of all its calls so far, as far as prices are known."""
        return dollars(deliberation.spent)

    @admin.action(description=gettext_lazy("Stop"), permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Deliberation]) -> None:
        """Ask the workers to stop them. What has come by then is kept."""
        going = list(queryset.filter(status__in=Deliberation.UNFINISHED))
        Deliberation.objects.filter(pk__in=[each.pk for each in going]).update(cancel_requested=True)
        for deliberation in going:
            self.log_change(request, deliberation, _("Stopped."))
        done = ngettext("%s deliberation is being stopped.", "%s deliberations are being stopped.", len(going))
        self.message_user(request, done % len(going), messages.SUCCESS if going else messages.WARNING)


class ModelFilter(admin.SimpleListFilter):
    """One model; its stock counterpart asks the database once for each model's provider."""

    title = gettext_lazy("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        """Every model of the catalogue."""
        names = LanguageModel.objects.values_list("pk", "name", "provider__name")
        return [(pk, f"{name} ({provider})") for pk, name, provider in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        """Calls to that model."""
        chosen = self.value()
        return queryset.filter(language_model=chosen) if chosen and chosen.isdecimal() else queryset


@admin.register(Call)
class CallAdmin(ReadOnly):
    """Every request to a provider, tests and titles too. Never what was asked or answered."""

    list_display = (
        "sent",
        "purpose",
        "model_name",
        "provider_name",
        "state",
        "outcome",
        "first_after",
        "seconds",
        "input_tokens",
        "output_tokens",
        "spent",
        "error",
    )
    list_filter = ("outcome", "purpose", "language_model__provider", ModelFilter, "sent")
    search_fields = ("model_name", "provider_name", "error", "generation")
    ordering = ("-sent", "-pk")
    show_full_result_count = False
    fields = (
        "purpose",
        "model_name",
        "provider_name",
        "deliberation_id",
        "seat",
        "state",
        "outcome",
        "error",
        "generation",
        "sent",
        "first_after",
        "seconds",
        "input_tokens",
        "output_tokens",
        "estimated",
        "spent",
    )

    @admin.display(description=gettext_lazy("first token"), ordering=F("first_token") - F("sent"))
    def first_after(self, call: Call) -> str | None:
        """Seconds until the first sign of life."""
        return f"{(call.first_token - call.sent).total_seconds():.1f}" if call.first_token else None

    @admin.display(description=gettext_lazy("seconds"), ordering=F("ended") - F("sent"))
    def seconds(self, call: Call) -> str | None:
        """How long it took in all."""
        return f"{(call.ended - call.sent).total_seconds():.1f}" if call.ended else None

    @admin.display(description=gettext_lazy("cost"), ordering="cost")
    def spent(self, call: Call) -> str | None:
        """In dollars."""
        return dollars(call.cost)
