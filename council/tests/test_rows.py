"""Statements by hand do what the ORM would."""

import json
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone

from council import plans
from council.core.values import Mode, Outcome
from council.models import Council, Deliberation, Provider, Review, Synthesis
from council.tests import rosters
from governance import rows

pytestmark = pytest.mark.django_db

HOSTILE = "100 % of %s, 'quoted' \"twice\" \\ and; DROP TABLE council_call; -- 日本 🎉"


@pytest.fixture
def deliberation():
    council = rosters.council(rosters.provider())
    made = plans.new_deliberation(uuid4(), council, HOSTILE, [], Mode.FULL)
    rows.execute([rows.insert([made])])
    return made


def test_what_is_inserted_is_what_the_orm_reads(deliberation):
    read = Deliberation.objects.get()
    deliberation.plan = json.loads(json.dumps(deliberation.plan))  # JSON knows no tuples
    for field in Deliberation._meta.concrete_fields:
        assert getattr(read, field.attname) == getattr(deliberation, field.attname), field
    assert read.question == HOSTILE


def test_keys_that_are_numbers_come_back(deliberation):
    new = [Review(deliberation=deliberation, seat=seat, error=HOSTILE) for seat in (2, 0, 1)]
    (result,) = rows.execute([rows.insert(new, "RETURNING id, seat")])
    assert [seat for _, seat in result.rows] == [2, 0, 1]
    assert set(Review.objects.values_list("id", "seat", "error")) == {(key, seat, HOSTILE) for key, seat in result.rows}
    assert rows.execute([rows.insert(new, "ON CONFLICT DO NOTHING")])[0].count == 0


def test_each_row_gets_values_of_its_own(deliberation):
    Review.objects.bulk_create(Review(deliberation=deliberation, seat=seat, text="old") for seat in range(4))
    now = timezone.now()
    new = [
        {
            "deliberation_id": deliberation.pk,
            "seat": seat,
            "text": HOSTILE * seat,
            "ballot": [[seat], [0]],
            "outcome": Outcome.COMPLETE,
            "cost": seat or None,
            "estimated": seat == 1,
            "finished": now + timedelta(seconds=seat) if seat else None,
        }
        for seat in range(3)
    ]
    statement = rows.update_each(Review, ["deliberation_id", "seat"], new, "council_review.state <> 'ended'")
    assert rows.execute([statement])[0].count == 3
    for values in new:
        row = Review.objects.get(seat=values["seat"])
        assert {name: getattr(row, name) for name in values} == values
    assert Review.objects.get(seat=3).text == "old"
    Review.objects.update(state="ended")
    assert rows.execute([statement])[0].count == 0


def test_a_text_that_is_too_long_is_refused_and_not_cut(deliberation):
    Synthesis.objects.create(deliberation=deliberation)
    new = [{"deliberation_id": deliberation.pk, "outcome": "x" * 11}]
    with pytest.raises(Exception, match="too long"):
        rows.execute([rows.update_each(Synthesis, ["deliberation_id"], new, "true")])


def test_what_is_selected_equals_what_the_orm_gives(deliberation):
    results = rows.execute(
        [
            rows.select(Provider, "ORDER BY id"),
            rows.select(Deliberation, "WHERE id = %s", deliberation.pk),
            rows.select(Council, "WHERE id = %s", 0),
        ]
    )
    for model, result in zip((Provider, Deliberation, Council), results, strict=True):
        read = rows.instances(model, result.rows)
        expected = list(model.objects.filter(pk__in=[each.pk for each in read]).order_by("pk"))
        assert read == expected
        for one, other in zip(read, expected, strict=True):
            assert not one._state.adding
            for field in model._meta.concrete_fields:
                assert getattr(one, field.attname) == getattr(other, field.attname), field


@pytest.mark.django_db(transaction=True)
def test_together_they_are_one_transaction():
    council = rosters.council(rosters.provider())
    made = plans.new_deliberation(uuid4(), council, "What now?", [], Mode.FULL)
    with pytest.raises(IntegrityError):
        rows.execute([rows.insert([made]), rows.insert([made])])
    assert not Deliberation.objects.exists()
    assert rows.execute([]) == []
    assert connection.is_usable()


def test_what_is_required_and_not_there_undoes_the_rest(deliberation):
    rename = rows.update("council_deliberation", {"council_name": "Renamed"}, "id = %s", deliberation.pk)
    here = f"SELECT 1 FROM council_deliberation WHERE id = '{deliberation.pk}'"
    rows.execute([rows.required(here), rename])
    assert Deliberation.objects.get().council_name == "Renamed"
    rename = rows.update("council_deliberation", {"council_name": "Again"}, "id = %s", deliberation.pk)
    with pytest.raises(rows.NotThere), transaction.atomic():
        rows.execute([rename, rows.required(f"{here} AND attempt = %s", 7)])
    assert Deliberation.objects.get().council_name == "Renamed"


def test_other_errors_stay_what_they_are():
    with pytest.raises(DataError), transaction.atomic():
        rows.execute([("SELECT 'x'::integer", [])])


def test_a_prepared_select_finds_what_the_queryset_finds(deliberation):
    by = rows.prepared(lambda key, name: Deliberation.objects.filter(pk=key, council_name=name), UUID(int=0), "a name")
    for name in (deliberation.council_name, HOSTILE, deliberation.council_name):
        (found,) = rows.execute([by(deliberation.pk, name)])
        expected = list(Deliberation.objects.filter(pk=deliberation.pk, council_name=name))
        assert rows.instances(Deliberation, found.rows) == expected


def prepared() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE name LIKE 'own\\_%'")
        return [statement for (statement,) in cursor.fetchall()]


def test_a_statement_is_prepared_once_whatever_its_values(deliberation):
    values = [None, 4_000_000_000, None, 7]
    for cost in values:
        rows.execute([rows.update("council_call", {"cost": cost, "error": HOSTILE, "ended": None}, "id = %s", 0)] * 2)
    assert len([each for each in prepared() if "UPDATE council_call SET cost" in each]) == 1


def test_what_failed_can_be_said_again(deliberation):
    wrong = ("SELECT 1 / nullif(%s::integer, 0), 'wrong once'", ["no number"])
    for _ in range(2):
        with pytest.raises(DataError), transaction.atomic():
            rows.execute([wrong])
    (right,) = rows.execute([(wrong[0], [1])])
    assert right.rows == [(1, "wrong once")]


def test_a_connection_does_not_keep_any_number_of_statements(deliberation, monkeypatch):
    monkeypatch.setattr(rows, "MOST_PREPARED", 5)
    for number in range(20):
        assert rows.execute([(f"SELECT {number}", [])])[0].rows == [(number,)]
    assert len(prepared()) <= 6
