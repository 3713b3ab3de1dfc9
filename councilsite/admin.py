"""The admin site: people sign in to it where they sign in to everything else, second factor included.

What a list can be narrowed by is decided here for every admin alike, those of other packages too.
"""

from typing import Any

from allauth.account import views
from allauth.account.decorators import secure_admin_login
from django.contrib import admin, messages
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext

from accounts import factors
from councilsite.auditing import Audited

# What the stock filters add to the name of a column, and to that of a row elsewhere.
OF_FILTERS = {"id", "exact", "in", "isnull", "isempty", "gte", "lt", "year", "month", "day"}


class NamedFilters:
    """A list is narrowed by what it names and by nothing else.

    The stock admin takes every column of a list's rows from the address (`?token__startswith=…`): whoever may see the
    list could find out, letter by letter, what its pages never show.
    """

    def lookup_allowed(self: Any, lookup: str, value: str, request: HttpRequest) -> bool:  # noqa: ARG002  # Django's signature
        """Whether one of the list's own filters, or its dates, could have put this into the address."""
        parts = lookup.split(LOOKUP_SEP)
        for each in (*self.get_list_filter(request), self.date_hierarchy):
            if isinstance(each, type):  # a filter of our own reads one parameter, whatever column has its name
                if lookup == getattr(each, "parameter_name", None):
                    return True
                continue
            named = (each[0] if isinstance(each, list | tuple) else each or "").split(LOOKUP_SEP)
            if parts[: len(named)] == named and OF_FILTERS.issuperset(parts[len(named) :]):
                return True
        return False


class AdminSite(admin.AdminSite):
    """The stock admin with allauth's ways to sign in, to sign out and to change a password."""

    site_header = site_title = "LLM Council"
    index_title = "Administration"

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Every admin with `NamedFilters` and `Audited` before its own ways, so that none can be forgotten."""
        admin_class = admin_class or admin.ModelAdmin
        before = (NamedFilters, Audited, admin_class)
        named = type(admin_class.__name__, before, {"__module__": admin_class.__module__})
        super().register(model_or_iterable, named, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        """Whoever is of the staff, with a second factor once the days without one are over."""
        return super().has_permission(request) and not factors.missing(request.user)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """With the day from which a second factor is needed."""
        until = factors.due(request.user) if self.has_permission(request) else None
        return {**super().each_context(request), "factor_due": until}

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send whoever is not signed in to the site's sign-in; others without the right get a 403.

        Staff who still need a second factor are sent to where they set one up.
        """
        if super().has_permission(request):
            messages.warning(request, gettext("The administration needs a second factor. Set one up to go on."))
            return redirect("mfa_activate_totp")
        response: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return response

    # The stock pages would leave sessions unlisted and sockets open.

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002  # Django's signature
        """The site's own page to sign out, and what it does."""
        response: HttpResponse = views.logout(request)
        return response

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002  # Django's signature
        """To the site's own page for a new password."""
        return redirect("account_change_password")

    def password_change_done(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002  # Django's signature
        """To where that one leads."""
        return redirect("settings")
