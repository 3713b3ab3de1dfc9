import multiprocessing
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from councilsite import keys


def test_it_makes_both_keys_once_and_keeps_them(tmp_path):
    first = keys.load(tmp_path / "var", {})
    assert keys.load(tmp_path / "var", {}) == first
    secret, (field_key,) = first
    assert len(secret) >= 50
    Fernet(field_key)


def test_it_lets_only_the_owner_read_them(tmp_path):
    keys.load(tmp_path / "var", {})
    assert {path.name for path in (tmp_path / "var").iterdir()} == {"secret_key", "field_keys"}
    for path in (tmp_path / "var").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _load(var: Path) -> tuple[str, list[str]]:
    return keys.load(var, {})


def test_two_processes_that_start_at_once_get_the_same_keys(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_load, [tmp_path / "var"] * 2, chunksize=1)
    assert first == second


@pytest.mark.parametrize("given", [{}, {"SECRET_KEY": "x"}, {"FIELD_KEYS": Fernet.generate_key().decode()}])
def test_a_deployment_must_bring_its_keys(tmp_path, given):
    with pytest.raises(ImproperlyConfigured) as caught:
        keys.load(tmp_path / "var", {"DATABASE_URL": "postgresql:///council", **given})
    for name in {"SECRET_KEY", "FIELD_KEYS"} - set(given):
        assert name in str(caught.value)
    assert not (tmp_path / "var").exists()


def test_the_ring_of_the_environment_is_taken_in_order(tmp_path):
    newest, oldest = (Fernet.generate_key().decode() for _ in range(2))
    _secret, ring = keys.load(tmp_path, {"SECRET_KEY": "x", "FIELD_KEYS": f"{newest},{oldest}"})
    assert ring == [newest, oldest]


def test_it_refuses_what_is_no_key(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="Fernet"):
        keys.load(tmp_path, {"SECRET_KEY": "x", "FIELD_KEYS": "hunter2"})
