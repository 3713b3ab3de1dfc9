"""Providers in the admin: where each is, the key that goes there, and refreshing the models that it lists."""

# ruff: noqa: ARG002  # Django's signatures

from textwrap import shorten
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from council import catalogue, rules
from council.admin.approving import decide
from council.admin.parts import SlugOnce
from council.models import LanguageModel, Provider


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
    remove_key = forms.BooleanField(
        label=gettext_lazy("Remove the stored key"),
        required=False,
        help_text=gettext_lazy("The provider is then asked without a key, as servers of your own often are."),
    )

    class Meta:
        model = Provider
        fields = ("name", "slug", "kind", "enabled", "private_address", "concurrency")

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
        return rules.address(self.cleaned_data["address"])

    def clean_new_key(self) -> str:
        """A key that a header can carry. Raises ValidationError, which does not repeat it."""
        return rules.key(self.cleaned_data["new_key"])

    def clean(self) -> dict[str, Any]:
        """An address where one is needed; and a stored key is not sent to a host it was not entered for."""
        given = super().clean() or self.cleaned_data
        new_key, remove, address = given.get("new_key"), given.get("remove_key"), given.get("address")
        if address == "" and given.get("kind") != Provider.Kind.PRACTICE:
            self.add_error("address", _("A provider needs an address. Only the practice model has none."))
        elif address:
            try:
                rules.in_reach(address, private=bool(given.get("private_address")))
            except ValidationError as error:
                self.add_error("private_address", error)
        if new_key and remove:
            self.add_error("remove_key", _("Either enter a key or remove the stored one."))
        elif (
            address
            and self.has_key
            and not (new_key or remove)
            and rules.host(address) != rules.host(self.instance.base_url)
        ):
            self.add_error(
                "new_key",
                _("This is another host than before. Enter the key again, so that it goes there knowingly."),
            )
        if new_key and self.errors:
            self.add_error("new_key", _("The key is never shown again, and so not kept here either: enter it again."))
        return given

    def save(self, commit: bool = True) -> Provider:  # noqa: FBT001, FBT002  # Django's signature
        """Put the address and the key in place."""
        self.instance.base_url = self.cleaned_data["address"]
        if self.cleaned_data["new_key"]:
            self.instance.api_key = self.cleaned_data["new_key"]
        elif self.cleaned_data["remove_key"]:
            self.instance.api_key = ""
        return super().save(commit)


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
                    "fields": ("address", "private_address", *key),
                    "description": _(
                        "The key is stored encrypted and sent to this address alone. Add this provider's models by "
                        "their ids; “Refresh models” in the list of providers then fills in their names, prices, "
                        "sizes and what they take."
                    ),
                },
            ),
            (_("How much at a time"), {"fields": ("concurrency",)}),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        """Without the key, so that a list can be shown even where a key cannot be read."""
        return (
            super()
            .get_queryset(request)
            .defer("api_key")
            .annotate(key_set=~Q(api_key=""), model_count=Count("language_models"))
        )

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:  # noqa: FBT001  # Django's
        """Models that are served from elsewhere now are others, approved by whoever moves them if they may do that.

        Whoever may not proposes them.
        """
        before = (
            Provider.objects.filter(pk=obj.pk).values_list("base_url", flat=True).first() if change else obj.base_url
        )
        super().save_model(request, obj, form, change)
        if rules.host(before or "") != rules.host(obj.base_url):
            approval = LanguageModel.Approval
            may = request.user.has_perm("council.approve_languagemodel")
            approved = obj.language_models.filter(approval=approval.APPROVED).select_related("decided_by")
            moved = list(approved.select_for_update(of=("self",)).order_by("pk"))
            decide(request, moved, approval.APPROVED if may else approval.PROPOSED)

    @admin.display(description=gettext_lazy("key"), boolean=True, ordering="key_set")
    def has_key(self, provider: Any) -> bool:
        """Whether a key is stored."""
        return bool(provider.key_set)

    @admin.display(description=gettext_lazy("models"), ordering="model_count")
    def models(self, provider: Any) -> int:
        """How many of its models are in the catalogue."""
        return int(provider.model_count)

    @admin.action(
        description=gettext_lazy("Refresh models from the provider (overwrites what it tells of them)"),
        permissions=["change"],
    )
    def refresh_models(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        """Ask each provider for its list of models, and say what changed."""
        for provider in queryset:
            try:
                offered = catalogue.offered(provider)
            except (catalogue.NoCatalogue, ImproperlyConfigured) as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            with transaction.atomic():
                done = catalogue.take_over(provider, offered, request.user.actor)
                self.log_change(request, provider, _("Refreshed models: %s") % (", ".join(done.changes) or "-"))
            said = ngettext("%(name)s lists %(n)s model.", "%(name)s lists %(n)s models.", done.offered) % {
                "name": provider.name,
                "n": f"{done.offered:,}",
            }
            such = ", ".join(each for each in offered if each.isprintable()) if not provider.model_count else ""
            if done.updated:
                changed = _("Changed here: %s.") % ", ".join(done.updated)
            elif such:
                changed = _("None of them is here yet. Add those that you want by their ids: %s") % shorten(
                    such, 300, placeholder=" …"
                )
            else:
                changed = _("Nothing changed here.")
            self.message_user(request, f"{said} {changed}", messages.SUCCESS)
            if done.missing:
                gone = _("%(name)s no longer lists %(ids)s. Calls to them may fail.")
                self.message_user(
                    request, gone % {"name": provider.name, "ids": ", ".join(done.missing)}, messages.WARNING
                )
