"""The admin's pages of the roster, in a real browser."""

import pytest
from django.urls import reverse

from conversations.tests.visitor import axe
from council.models import Council, LanguageModel, Provider

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_axe_objects_to_nothing_in_the_roster(site_council, visitor):
    visitor.user.is_staff = visitor.user.is_superuser = True
    visitor.user.save()
    addresses = ["/admin/"]
    for model in (Provider, LanguageModel, Council):
        name = f"admin:council_{model._meta.model_name}"
        row = model.objects.order_by("pk").last()
        addresses += [reverse(f"{name}_changelist"), reverse(f"{name}_add"), reverse(f"{name}_change", args=[row.pk])]
    objections = []
    for theme, width in (("light", 1440), ("dark", 390)):
        page = visitor.open(visitor.look(color_scheme=theme, viewport={"width": width, "height": 900}))
        for address in addresses:
            page.goto(address)
            page.locator("#content").wait_for()
            assert page.url.endswith(address)
            assert not visitor.problems, address
            objections += [f"{address} {theme} {width}: {each}" for each in axe(page)]
            visitor.problems.clear()  # axe's own sheets, which the policy blocks
        page.context.close()
    visitor.contexts[1:] = []
    assert not objections
