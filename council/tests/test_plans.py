import json
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, Group

from accounts.models import User
from council import plans
from council.core.values import CHAIRMAN, Exchange, Mode, Plan
from council.models import Council, Deliberation, LanguageModel, Seat
from council.tests import rosters

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return rosters.provider()


@pytest.fixture
def council(provider):
    return rosters.council(provider)


def new(council, question="Why?", history=(), mode=Mode.FULL):
    made = plans.new_deliberation(uuid4(), council, question, history, mode)
    made.save()
    return Deliberation.objects.get(pk=made.pk)


def test_members_sit_in_their_order_and_the_chairman_apart(council):
    council.seats.filter(language_model__name="Gamma").update(position=0)
    council.seats.filter(language_model__name="Alpha").update(position=2)
    plan = Plan.from_json(new(council).plan)
    assert [seat.name for seat in plan.members] == ["Gamma", "Beta", "Alpha"]
    assert [seat.index for seat in plan.members] == [0, 1, 2]
    assert (plan.chairman.name, plan.chairman.index) == ("Delta", CHAIRMAN)


def test_each_reviewer_has_an_order_and_labels_of_its_own_drawn_anew_for_each_deliberation(council):
    drawn = [Plan.from_json(plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL).plan) for _ in range(30)]
    for plan in drawn:
        assert [sorted(order.seats) for order in plan.orders] == [[0, 1, 2]] * 3
    # By chance two of thirty draws are alike, never all of them; nor do the same three of a thousand labels come again.
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert any(plan.orders[one].seats != plan.orders[other].seats for plan in drawn)
    labels = [frozenset(each) for plan in drawn for each in (plan.common, *(order.labels for order in plan.orders))]
    assert len(set(labels)) == 30 * 4
    for reviewer in range(3):
        assert len({plan.orders[reviewer].seats for plan in drawn}) > 1


def test_what_a_later_release_has_stored_with_a_plan_is_passed_over(council):
    council.fallbacks.create(role="member", position=0, language_model=LanguageModel.objects.get(name="Delta"))
    stored = new(council, "Why?", [Exchange("Before?", "Yes.")]).plan
    plan = Plan.from_json(stored)
    read = [plans.model_of(stored, 0), *plans.stand_ins(stored, plan.members[0])]
    assert len(read) == 2
    parts = [stored["chairman"], *stored["members"], *stored["history"], *stored["models"]]
    for each in (stored, *parts, *(each[part] for each in stored["fallbacks"] for part in ("model", "fit"))):
        each["later"] = 1
    assert Plan.from_json(stored) == plan
    assert [plans.model_of(stored, 0), *plans.stand_ins(stored, plan.members[0])] == read


def test_a_plan_has_all_that_is_needed_later(council):
    made = new(council, "Why?", [Exchange("Before?", "Yes.")], Mode.ANSWERS)
    plan = Plan.from_json(made.plan)
    assert (plan.question, plan.mode) == ("Why?", Mode.ANSWERS)
    assert plan.history == (Exchange("Before?", "Yes."),)
    assert (made.question, made.mode, made.council_name) == ("Why?", "answers", "Council test")
    assert len(plan.orders) == 3
    assert [plans.model_of(made.plan, seat).name for seat in (0, 1, 2, CHAIRMAN)] == ["Alpha", "Beta", "Gamma", "Delta"]


def test_no_change_of_the_roster_changes_what_was_planned(council, provider):
    made = new(council)
    before = json.dumps(made.plan)
    council.seats.update(name="Other", system_prompt="Other.")
    provider.language_models.update(name="Other", input_price=9)
    provider.language_models.filter(slug="fake-alpha").update(model_id="other")
    council.seats.all().delete()
    council.delete()
    made.refresh_from_db()
    assert json.dumps(made.plan) == before
    assert (made.council, made.council_name) == (None, "Council test")
    assert plans.model_of(made.plan, 0).model_id == "fake/alpha"


def test_the_plan_holds_no_key(council):
    assert rosters.KEY not in json.dumps(new(council).plan)


def test_no_label_stands_in_the_question_or_the_conversation(council):
    first = Plan.from_json(new(council).plan)
    taken = " ".join([*first.common, *(label for order in first.orders for label in order.labels)])
    for made in (new(council, taken), new(council, "Why?", [Exchange("Before?", taken)])):
        plan = Plan.from_json(made.plan)
        labels = [*plan.common, *(label for order in plan.orders for label in order.labels)]
        assert not [label for label in labels if label in taken]


def test_caps_leave_a_small_model_room_to_read(council, provider):
    provider.language_models.filter(name="Alpha").update(context=3000)
    provider.language_models.filter(name="Beta").update(max_output=200)
    plan = Plan.from_json(new(council).plan)
    assert [seat.answer_tokens for seat in plan.members] == [1000, 200, 4000]
    assert [seat.review_tokens for seat in plan.members] == [1000, 200, 1500]


def test_rankings_are_enumerated_for_servers_with_grammars(council, provider):
    assert Plan.from_json(new(council).plan).members[0].enumerate_ballots
    type(provider).objects.update(kind="openrouter")
    assert not Plan.from_json(new(council).plan).members[0].enumerate_ballots


def test_practice_is_marked(council, provider):
    assert not new(council).practice
    type(provider).objects.update(kind="practice")
    assert new(council).practice


class TestACouncilThatCannotBeAsked:
    def test_a_member_that_is_switched_off_is_left_out(self, council, provider):
        provider.language_models.filter(name="Alpha").update(enabled=False)
        assert [seat.name for seat in Plan.from_json(new(council).plan).members] == ["Beta", "Gamma"]

    def test_one_member_is_too_few(self, council, provider):
        provider.language_models.filter(name__in=["Alpha", "Beta"]).update(enabled=False)
        with pytest.raises(plans.NotReady, match="“Council test” needs at least two members"):
            new(council)

    def test_a_provider_that_is_switched_off_switches_its_models_off(self, council, provider):
        type(provider).objects.update(enabled=False)
        with pytest.raises(plans.NotReady, match="at least two members"):
            new(council)

    def test_a_chairman_is_needed(self, council, provider):
        provider.language_models.filter(name="Delta").update(enabled=False)
        with pytest.raises(plans.NotReady, match="has no chairman whose model is in use"):
            new(council)
        council.seats.filter(role=Seat.Role.CHAIRMAN).delete()
        with pytest.raises(plans.NotReady, match="has no chairman"):
            new(council)


class TestWhoMayUseACouncil:
    def usable(self, user):
        return set(Council.objects.usable_by(user).values_list("slug", flat=True))

    def test_one_without_groups_is_everyones(self, council):
        assert self.usable(User.objects.create_user("a@example.org")) == {"test"}

    def test_one_with_groups_is_theirs_alone(self, council, provider):
        seniors, others = Group.objects.create(name="Seniors"), Group.objects.create(name="Others")
        council.groups.add(seniors, others)
        inside, outside = User.objects.create_user("in@example.org"), User.objects.create_user("out@example.org")
        inside.groups.add(seniors, others)
        assert list(Council.objects.usable_by(inside)) == [council], "and only once"
        assert self.usable(outside) == set()
        assert self.usable(AnonymousUser()) == set()

    def test_one_that_is_switched_off_is_nobodys(self, council):
        Council.objects.update(enabled=False)
        assert self.usable(User.objects.create_user("a@example.org")) == set()


def test_a_council_is_found_with_its_seats_by_whoever_may_use_it(council, django_assert_num_queries):
    alice, bob = (User.objects.create_user(f"{name}@example.org", "pw") for name in ("alice", "bob"))
    closed = Group.objects.create(name="closed")
    council.groups.add(closed)
    alice.groups.add(closed)
    with django_assert_num_queries(1):
        found = plans.usable(alice.pk, council.slug)
        members, chairman = plans.line_up(found)
    assert found == council
    assert ([str(each) for each in members], str(chairman)) == (
        [str(each) for each in plans.line_up(council)[0]],
        str(plans.line_up(council)[1]),
    )
    assert plans.usable(bob.pk, council.slug) is None
    assert plans.usable(alice.pk, "another") is None
    Council.objects.update(enabled=False)
    assert plans.usable(alice.pk, council.slug) is None
