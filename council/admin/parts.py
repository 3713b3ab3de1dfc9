"""What several admins share: what of a row is for editing, and money as people write it."""

# ruff: noqa: ARG002  # Django's signatures

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest


class SlugOnce(admin.ModelAdmin):
    """A slug follows the name while a row is new, and stays what it is from then on."""

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """The slug too, once files and commands may know it."""
        return (*super().get_readonly_fields(request, obj), *(("slug",) if obj else ()))

    def get_prepopulated_fields(self, request: HttpRequest, obj: Model | None = None) -> dict[str, Any]:
        """The slug of a new row."""
        return {} if obj else {"slug": ("name",)}


class WordsOfProviders(admin.ModelAdmin):
    """Rows with errors in a provider's own words, which may repeat what it was asked: for whoever looks after them."""

    words = ("error",)

    def _with_words(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("council.change_provider"))

    def get_list_display(self, request: HttpRequest) -> Any:
        """Without them for others."""
        return self._seen(request, super().get_list_display(request))

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """The same."""
        return self._seen(request, super().get_fields(request, obj))

    def get_search_fields(self, request: HttpRequest) -> Any:
        """Nor are they found out by searching."""
        return self._seen(request, super().get_search_fields(request))

    def _seen(self, request: HttpRequest, names: Any) -> list[Any]:
        return [each for each in names if each not in self.words or self._with_words(request)]


def dollars(micro: int | None) -> str | None:
    """Micro-dollars as people write them: $1.25, $0.0375."""
    return None if micro is None else f"${Decimal(micro) / 10**6:,f}"


class DollarsField(forms.DecimalField):
    """Dollars a million tokens, stored as micro-dollars."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, min_value=0, max_value=1_000_000, decimal_places=6, **options)

    def clean(self, value: Any) -> Any:
        """Micro-dollars, or None."""
        price = super().clean(value)
        return None if price is None else int(price * 10**6)
