import re
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group

from accounts.models import User
from council import plans
from council.core.values import Mode
from council.models import Breaker, Call, Council, Deliberation, LanguageModel, Provider, Seat
from council.tests import rosters
from council.tests.admin_pages import MARKUP, page, provider_form, save, url

pytestmark = pytest.mark.django_db


class TestEveryPage:
    @pytest.mark.parametrize("model", [Provider, LanguageModel, Council, Deliberation, Call, Breaker])
    def test_opens(self, admin, council, model):
        deliberation = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        deliberation.save()
        Call.objects.create(deliberation=deliberation, purpose="answer", model_name="x", sent=deliberation.created)
        Breaker.objects.create(language_model=LanguageModel.objects.first())
        assert admin.get(url(model)).status_code == 200
        assert admin.get(url(model), {"q": "fake"}).status_code == 200
        assert admin.get(url(model, "change", model.objects.first().pk)).status_code == 200

    @pytest.mark.parametrize("model", [Provider, LanguageModel, Council])
    def test_adds(self, admin, model):
        assert admin.get(url(model, "add")).status_code == 200

    @pytest.mark.parametrize("model", [Provider, LanguageModel, Council])
    def test_explains_every_field(self, admin, council, model):
        context = admin.get(url(model, "change", model.objects.first().pk)).context
        forms = [context["adminform"].form, *(each.formset.empty_form for each in context["inline_admin_formsets"])]
        unsaid = {"id", "council", "DELETE"}  # of a row: hidden, or the framework's own
        for form in forms:
            assert not [name for name, field in form.fields.items() if name not in unsaid and not field.help_text]

    def test_is_for_administrators(self, client, council):
        assert client.get(url(Provider)).status_code == 302
        client.force_login(User.objects.create_user("member@example.org", "correct horse battery"))
        assert client.get(url(Provider)).status_code == 302

    def test_shows_names_as_text(self, admin, provider, council):
        Provider.objects.update(name=f"P{MARKUP}")
        LanguageModel.objects.filter(name="Alpha").update(name=f"M{MARKUP}")
        Council.objects.update(name=f"C{MARKUP}")
        Seat.objects.filter(position=1).update(name=f"S{MARKUP}")
        deliberation = plans.new_deliberation(uuid4(), Council.objects.get(), "Why?", (), Mode.FULL)
        deliberation.save()
        call = Call.objects.create(
            deliberation=deliberation,
            purpose="test",
            model_name=f"M{MARKUP}",
            provider_name=f"P{MARKUP}",
            error=f"E{MARKUP}",
            sent=deliberation.created,
        )
        for row in (provider, provider.language_models.first(), council, deliberation, call):
            for address in (url(type(row)), url(type(row), "change", row.pk)):
                text = admin.get(address).content.decode()
                assert "<script>alert(1)" not in text
                assert "<b>" not in text

    def test_a_slug_follows_the_name_once(self, admin, provider, council):
        save(admin, provider, provider_form(slug="another", name="Other"))
        provider.refresh_from_db()
        assert (provider.slug, provider.name) == ("fake", "Other")

    def test_a_provider_with_models_is_not_deleted(self, admin, council, provider):
        text = page(admin.post(url(Provider, "delete", provider.pk), {"post": "yes"}))
        assert "would require deleting the following protected related objects" in text
        assert Provider.objects.exists()

    def test_a_model_in_a_seat_is_not_deleted(self, admin, council):
        model = LanguageModel.objects.first()
        assert "protected" in page(admin.post(url(LanguageModel, "delete", model.pk), {"post": "yes"}))
        assert LanguageModel.objects.filter(pk=model.pk).exists()


class TestFilters:
    """Beside each list, as links that narrow it."""

    @pytest.fixture
    def rosters_of_many_kinds(self, provider, council):
        off = rosters.provider(slug="off", kind="openrouter", enabled=False)
        rosters.model(off, "omega")
        LanguageModel.objects.filter(name="Beta").update(approval="retired")
        LanguageModel.objects.filter(name="Gamma").update(enabled=False)
        Council.objects.create(slug="other", name="Other", default=True, enabled=False)
        for name in ("Directors", "Seniors"):
            Council.objects.get(slug="other").groups.add(Group.objects.create(name=name))

    @pytest.mark.parametrize(
        ("model", "by", "chosen", "left"),
        [
            (Provider, "enabled", "No", ["Off"]),
            (Provider, "kind", "OpenRouter", ["Off"]),
            (LanguageModel, "approval", "retired", ["Beta"]),
            (LanguageModel, "provider", "Off", ["Omega"]),
            (LanguageModel, "enabled", "No", ["Gamma"]),
            (Council, "enabled", "No", ["Other"]),
            (Council, "default", "Yes", ["Other"]),
            (Council, "groups", "Directors", ["Other"]),
        ],
    )
    def test_a_link_leaves_only_what_it_says(self, admin, rosters_of_many_kinds, model, by, chosen, left):
        def names(text):
            return re.findall(r'class="field-name[^"]*"><a [^>]*>([^<]*)<', text)

        text = page(admin.get(url(model)))
        assert len(names(text)) > len(left)
        links = re.search(rf'<details data-filter-title="{by}".*?</details>', text, re.DOTALL)[0]
        place = re.search(rf'<a href="([^"]*)">\s*{chosen}\s*</a>', links)[1]
        assert names(page(admin.get(url(model) + place))) == left
