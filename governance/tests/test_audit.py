"""The trail takes what it is told, in order, and nothing is ever taken back."""

import hashlib
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from governance import audit
from governance.audit import Kind, Thing
from governance.models import Event, Tally

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_event_says_who_did_what_to_what():
    actor = uuid4()
    audit.record(Kind.CHANGED, actor, Thing("council", 7), quorum=[None, 3])
    event = Event.objects.get()
    assert (event.pk, event.actor, event.kind) == (1, actor, "changed")
    assert (event.object_type, event.object_id, event.details) == ("council", "7", {"quorum": [None, 3]})
    assert timezone.now() - event.at < timedelta(minutes=1)


def test_details_are_said_in_words_where_json_has_none():
    audit.record(Kind.CHANGED, details={"since": timezone.now(), "names": {"a"}, 1: "one\x00"})
    details = Event.objects.get().details["details"]
    assert details["names"] == ["a"]
    assert details["1"] == "one"
    assert details["since"].startswith("20")


def test_events_of_one_statement_are_chained_too():
    table = Event._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (kind, object_type, object_id, details)"
            " SELECT 'did', '', '', '{}' FROM generate_series(1, 3)"
        )
    hashes = list(Event.objects.order_by("pk").values_list("pk", "hash"))
    assert [number for number, _ in hashes] == [1, 2, 3]
    assert len({bytes(each) for _, each in hashes}) == 3


def test_what_is_rolled_back_leaves_no_gap():
    audit.record(Kind.ADDED)
    with transaction.atomic():
        audit.record(Kind.ADDED)
        transaction.set_rollback(True)
    audit.record(Kind.ADDED)
    assert list(Event.objects.order_by("pk").values_list("pk", flat=True)) == [1, 2]


def test_many_at_once_are_numbered_one_after_another():
    def write():
        for _ in range(20):
            audit.record(Kind.DID)
        connection.close()

    threads = [threading.Thread(target=write) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert list(Event.objects.order_by("pk").values_list("pk", flat=True)) == list(range(1, 101))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE governance_event SET kind = 'another'",
        "DELETE FROM governance_event",
        "TRUNCATE governance_event",
        "TRUNCATE governance_event CASCADE",
    ],
)
def test_nothing_is_changed_or_removed(sql):
    audit.record(Kind.ADDED)
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(sql)
    assert Event.objects.get().kind == "added"


def test_nor_by_the_orm():
    audit.record(Kind.ADDED)
    event = Event.objects.get()
    with pytest.raises(TypeError):
        event.save()
    with pytest.raises(DatabaseError, match="append-only"):
        event.delete()


def test_what_an_insert_says_of_number_time_and_hash_does_not_count():
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO governance_event (id, at, hash, kind, object_type, object_id, details)"
            " VALUES (99, '2001-01-01', 'x', 'did', '', '', '{}')"
        )
    event = Event.objects.get()
    assert event.pk == 1
    assert event.at.year > 2001
    assert len(event.hash) == hashlib.sha256().digest_size


def test_counts_become_one_event_once_their_minute_is_over():
    for _ in range(3):
        audit.count(Kind.SIGN_IN_FAILED)
    audit.count(Kind.LINK_OPENED, Thing("link", 5))
    assert audit.tell() == 0
    Tally.objects.update(minute=timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=1))
    assert audit.tell() == 2
    told = {each.kind: each for each in Event.objects.all()}
    assert told["sign-in failed"].details["times"] == 3
    assert (told["link opened"].object_type, told["link opened"].object_id) == ("link", "5")
    assert not Tally.objects.exists()


def test_a_digest_is_the_same_for_the_same_text_and_needs_the_key():
    assert audit.digest("a secret plan") == audit.digest("a secret plan") != audit.digest("another")
    assert audit.digest("a secret plan") != hashlib.sha256(b"a secret plan").hexdigest()
