import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models
from django.test.utils import isolate_apps

from governance.fields import EncryptedTextField

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECRET = "sk-secret-日本-0123456789"


@pytest.fixture
def field():
    with isolate_apps("governance"):

        class Safe(models.Model):
            secret = EncryptedTextField()

            class Meta:
                app_label = "governance"

        yield Safe._meta.get_field("secret")


def stored(field, text):
    return field.get_prep_value(text)


def row(field, text):
    return field.model.from_db("default", ["id", "secret"], [1, field.from_db_value(text, None, None)])


def loaded(field, text):
    return row(field, text).secret


def test_the_database_never_sees_the_text(field):
    kept = stored(field, SECRET)
    assert SECRET not in kept
    assert "secret" not in kept
    assert loaded(field, kept) == SECRET


def test_the_same_text_is_stored_otherwise_each_time(field):
    assert stored(field, SECRET) != stored(field, SECRET)


@pytest.mark.parametrize("empty", ["", None])
def test_empty_stays_empty(field, empty):
    assert stored(field, empty) == empty
    assert loaded(field, empty) == empty


def test_after_a_change_of_keys_old_texts_can_still_be_read(field, settings):
    settings.FIELD_KEYS = [OLD]
    kept = stored(field, SECRET)
    settings.FIELD_KEYS = [NEW, OLD]
    assert loaded(field, kept) == SECRET


def test_the_newest_key_writes(field, settings):
    settings.FIELD_KEYS = [NEW, OLD]
    kept = stored(field, SECRET)
    settings.FIELD_KEYS = [NEW]
    assert loaded(field, kept) == SECRET


def test_without_the_right_key_reading_says_what_to_do_and_nothing_else(field, settings):
    settings.FIELD_KEYS = [OLD]
    kept = stored(field, SECRET)
    settings.FIELD_KEYS = [NEW]
    with pytest.raises(ImproperlyConfigured, match=r"governance\.Safe\.secret was encrypted with a key that is not in"):
        loaded(field, kept)


def test_a_row_whose_key_is_lost_can_be_read_and_saved_without_a_change_of_it(field, settings):
    settings.FIELD_KEYS = [OLD]
    kept = stored(field, SECRET)
    settings.FIELD_KEYS = [NEW]
    found = row(field, kept)
    assert found.id == 1
    assert field.get_db_prep_save(field.pre_save(found, add=False), connection) == kept


def test_a_new_text_replaces_one_that_cannot_be_read(field, settings):
    settings.FIELD_KEYS = [OLD]
    found = row(field, stored(field, "old"))
    settings.FIELD_KEYS = [NEW]
    found.secret = SECRET
    assert loaded(field, field.get_db_prep_save(field.pre_save(found, add=False), connection)) == SECRET


def test_what_was_tampered_with_is_not_read(field):
    kept = stored(field, SECRET)
    with pytest.raises(ImproperlyConfigured):
        loaded(field, kept[:-4] + "AAAA")
