from uuid import uuid4

import pytest

from accounts.models import User
from council import plans
from council.core.values import Mode
from council.models import Answer, Call, Deliberation, LanguageModel
from council.tests.admin_pages import page, run, said, url
from governance.models import Event

pytestmark = pytest.mark.django_db


class TestDeliberations:
    @pytest.fixture
    def deliberation(self, council):
        made = plans.new_deliberation(uuid4(), council, "What is the secret question?", (), Mode.FULL)
        made.save()
        Answer.objects.create(deliberation=made, seat=0, text="The secret answer.", state="ended", outcome="complete")
        for cost in (1_000_000, 250_000, None):
            Call.objects.create(deliberation=made, purpose="answer", model_name="x", sent=made.created, cost=cost)
        return made

    def pages(self, admin, deliberation):
        return [
            page(admin.get(address))
            for address in (
                url(Deliberation),
                url(Deliberation, "change", deliberation.pk),
                url(Deliberation) + "?q=secret",
                url(Deliberation) + f"?q={deliberation.pk}",
                url(Call),
            )
        ]

    def test_nothing_that_was_asked_or_answered_is_shown(self, admin, deliberation):
        for text in self.pages(admin, deliberation):
            assert "secret question" not in text
            assert "secret answer" not in text
            assert deliberation.plan["nonce"] not in text

    def test_a_question_cannot_be_searched_for(self, admin, deliberation):
        assert "0 deliberations" in page(admin.get(url(Deliberation) + "?q=secret"))

    def test_one_is_found_by_its_id(self, admin, deliberation):
        assert "1 deliberation" in page(admin.get(url(Deliberation) + f"?q={deliberation.pk}"))

    def test_it_tells_what_was_spent(self, admin, deliberation):
        for text in self.pages(admin, deliberation)[:2]:
            assert "$1.25" in text

    def test_it_is_for_reading_alone(self, admin, deliberation):
        call = Call.objects.first()
        for row in (deliberation, call):
            assert admin.get(url(type(row), "add")).status_code == 403
            assert admin.post(url(type(row), "delete", row.pk), {"post": "yes"}).status_code == 403
            assert admin.post(url(type(row), "change", row.pk), {"status": "failed"}).status_code == 403
            assert "delete_selected" not in page(admin.get(url(type(row))))

    def test_stop_asks_the_workers_to_stop_what_goes_on(self, admin, deliberation, council):
        done = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        done.status = "complete"
        done.save()
        (message,) = said(run(admin, Deliberation, "stop", [deliberation, done]))
        assert message == "1 deliberation is being stopped."
        assert list(Deliberation.objects.filter(cancel_requested=True)) == [deliberation]
        run(admin, Deliberation, "stop", [deliberation, done])  # it is told once, however often that is said
        told = Event.objects.get(kind="stopped")
        assert (told.object_id, told.details) == (str(deliberation.pk), {"by": "administration"})
        assert told.actor == User.objects.get(is_superuser=True).actor

    def test_stopping_is_not_for_who_may_only_look(self, client, deliberation):
        from django.contrib.auth.models import Permission

        looker = User.objects.create_user("looker@example.org", "correct horse battery", is_staff=True)
        looker.user_permissions.add(Permission.objects.get(codename="view_deliberation"))
        client.force_login(looker)
        assert client.get(url(Deliberation)).status_code == 200
        run(client, Deliberation, "stop", [deliberation])
        assert not Deliberation.objects.filter(cancel_requested=True).exists()


class TestCalls:
    def test_the_list_costs_the_same_for_one_and_for_many(self, admin, council, django_assert_max_num_queries):
        model = LanguageModel.objects.first()
        sent = User.objects.first().date_joined
        Call.objects.bulk_create(
            Call(purpose="test", model_name="x", language_model=model, sent=sent) for _ in range(60)
        )
        with django_assert_max_num_queries(14):
            admin.get(url(Call))

    def test_filters(self, admin, council):
        alpha, beta = LanguageModel.objects.filter(name__in=["Alpha", "Beta"]).order_by("name")
        sent = User.objects.first().date_joined
        made = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        made.save()
        Call.objects.create(
            purpose="answer",
            model_name="Alpha",
            language_model=alpha,
            sent=sent,
            outcome="complete",
            deliberation=made,
        )
        Call.objects.create(purpose="test", model_name="Beta", language_model=beta, sent=sent, outcome="failed")
        for query in (
            {"model": alpha.pk},
            {"outcome__exact": "complete"},
            {"purpose__exact": "answer"},
            {"q": "Alpha"},
            {"q": str(made.pk)},
        ):
            assert "1 call" in page(admin.get(url(Call), query))
        assert "2 calls" in page(admin.get(url(Call), {"language_model__provider__id__exact": alpha.provider_id}))
        assert "2 calls" in page(admin.get(url(Call), {"model": "nonsense"}))
