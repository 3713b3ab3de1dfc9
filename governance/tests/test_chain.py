"""Whoever alters the trail, by whatever way, is found out."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from governance import audit, chain, hash_chain
from governance.audit import Kind, Thing
from governance.models import Event, Verification

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def trail():
    for number in range(5):
        audit.record(Kind.CHANGED, on=Thing("council", number), name=["Ünïcode “a”", {"b": [1.5, None, True]}])


def by_force(sql: str) -> None:
    """As the owner of the database, who may lift any trigger."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE governance_event DISABLE TRIGGER USER")
        try:
            cursor.execute(sql)
        finally:
            cursor.execute("ALTER TABLE governance_event ENABLE TRIGGER USER")


def rewrite(sql: str) -> None:
    """Alter an event and make the whole chain anew, as the table's own trigger would have."""
    by_force("CREATE TABLE kept AS SELECT * FROM governance_event")
    try:
        by_force(f"{sql}; DELETE FROM governance_event".replace("governance_event SET", "kept SET"))
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO governance_event (actor, kind, object_type, object_id, details)"
                " SELECT actor, kind, object_type, object_id, details FROM kept ORDER BY id"
            )
    finally:
        by_force("DROP TABLE kept")


def wrong(*heads) -> list[str]:
    return chain.verify(*heads).wrong


def test_a_whole_trail_is_whole(trail):
    found = chain.verify()
    assert (found.events, found.wrong, found.head.event) == (5, [], 5)
    assert found.head.hash == chain.head().hash


def test_an_empty_one_too():
    assert chain.verify().wrong == []
    assert chain.head().event == 0


@pytest.mark.parametrize(
    "change",
    [
        "kind = 'asked'",
        "actor = gen_random_uuid()",
        "object_type = 'x'",
        "object_id = '9'",
        "details = '{}'",
        "at = at + interval '1 microsecond'",
        "hash = sha256('x')",
    ],
)
def test_an_altered_row_is_found(trail, change):
    by_force(f"UPDATE governance_event SET {change} WHERE id = 3")
    assert "Event 3 is not what it was when it was written." in wrong()


def test_a_removed_row_is_found(trail):
    by_force("DELETE FROM governance_event WHERE id = 3")
    assert wrong() == ["Event 3 missing."]


def test_rows_that_changed_places_are_found(trail):
    by_force("UPDATE governance_event SET id = 100 - id WHERE id IN (2, 3)")
    assert wrong()


def test_what_the_trigger_writes_once_its_function_was_replaced_is_found(trail):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('governance_event_chain'::regproc)")
        (was,) = cursor.fetchone()
        cursor.execute(was.replace("NEW.kind,", "'did',"))
        try:
            audit.record(Kind.DELETED)
        finally:
            cursor.execute(was)
    assert wrong() == ["Event 6 is not what it was when it was written."]


def test_an_end_that_was_cut_off_is_found_against_a_head(trail):
    head = chain.read(chain.signed(chain.head()))
    by_force("DELETE FROM governance_event WHERE id > 3")
    assert wrong() == []
    assert wrong(head) == ["Event 5, whose head was exported, is missing."]


def test_a_rewritten_chain_is_found_against_a_head(trail):
    head = chain.read(chain.signed(chain.head()))
    rewrite("UPDATE governance_event SET kind = 'asked' WHERE id = 2")
    assert Event.objects.get(pk=2).kind == "asked"
    assert wrong() == []
    assert wrong(head) == ["Event 5 is another than the one whose head was exported."]


def test_of_two_heads_of_one_event_both_must_fit(trail):
    before = chain.read(chain.signed(chain.head()))
    rewrite("UPDATE governance_event SET kind = 'asked' WHERE id = 2")
    since = chain.read(chain.signed(chain.head()))
    assert wrong(since) == []
    for heads in [(before, since), (since, before)]:
        assert wrong(*heads) == ["Event 5 is another than the one whose head was exported."]


def test_a_head_that_fits_is_borne_out(trail, tmp_path):
    out = StringIO()
    call_command("audit_head", stdout=out)
    assert Event.objects.first().kind == "exported"
    kept = tmp_path / "head.json"
    kept.write_text(out.getvalue())
    said = StringIO()
    call_command("verify_audit", head=[kept], stdout=said)
    assert said.getvalue().startswith("6 events, all as they were written, and against 1 exported.")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"event": 1}, "altered"),
        ({"hash": "00" * 32}, "altered"),
        ({"signature": "AAAA"}, "altered"),
        ({"public_key": "AAAA"}, "no exported head"),
        ({"signature": None}, "no exported head"),
    ],
)
def test_a_head_that_was_altered_is_none(trail, change, words):
    with pytest.raises(chain.NoHead, match=words):
        chain.read(json.dumps(json.loads(chain.signed(chain.head())) | change))


def test_a_head_of_another_key_is_none(trail, monkeypatch):
    with monkeypatch.context() as another:
        another.setattr(audit, "key", lambda: b"x" * 32)
        document = chain.signed(chain.head())
    with pytest.raises(chain.NoHead, match="Another audit key"):
        chain.read(document)


def test_what_is_no_document_is_none():
    with pytest.raises(chain.NoHead):
        chain.read("[]")
    with pytest.raises(chain.NoHead):
        chain.read("no json")


def test_the_command_ends_with_what_is_wrong(trail, tmp_path):
    by_force("DELETE FROM governance_event WHERE id = 2")
    with pytest.raises(CommandError, match="Event 2 missing"):
        call_command("verify_audit")
    with pytest.raises(CommandError, match="No such file"):
        call_command("verify_audit", head=[tmp_path / "none.json"])


def test_what_it_came_to_is_kept(trail):
    chain.verify_and_keep()
    assert Verification.objects.get().wrong == ""
    by_force("DELETE FROM governance_event WHERE id = 2")
    chain.verify_and_keep()
    gone, fewer = Verification.objects.get().wrong.splitlines()
    assert gone == "Event 2 missing."
    assert fewer.startswith("On ")


def test_of_much_that_is_wrong_the_first_is_told():
    for _ in range(30):
        audit.record(Kind.DID)
    by_force("UPDATE governance_event SET kind = 'x'")
    found = wrong()
    assert len(found) == hash_chain.MOST_WRONG + 1
    assert found[-1] == "And 10 more."
