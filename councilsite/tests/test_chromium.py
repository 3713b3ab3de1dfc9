"""The browser of the browser tests: found, got where there is none, and missed where it has to be there."""

import subprocess

import pytest

from councilsite.tests import chromium


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """One without a Chromium, whose commands all fail; what was tried is in `machine.tried`."""
    for name in ("CHROMIUM", "PLAYWRIGHT_BROWSERS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    class Machine:
        folder = tmp_path
        tried: list[list[str]] = []
        works = False

    def run(command, **_options):
        Machine.tried.append(command)
        return subprocess.CompletedProcess(command, 0 if Machine.works else 1)

    Machine.tried = []
    monkeypatch.setattr(chromium.subprocess, "run", run)
    return Machine


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


def test_there_is_none(machine):
    assert chromium.find() is None


def test_the_one_that_is_named_is_taken_or_none(machine, monkeypatch):
    program(machine.folder / "chromium")
    monkeypatch.setenv("CHROMIUM", program(machine.folder / "mine"))
    assert chromium.find() == str(machine.folder / "mine")
    monkeypatch.setenv("CHROMIUM", str(machine.folder / "gone"))
    assert chromium.find() is None


def test_the_system_s_comes_before_playwright_s(machine):
    own = program(machine.folder / ".cache/ms-playwright/chromium-1/chrome-linux/chrome")
    assert chromium.find() == own
    system = program(machine.folder / "chromium")
    assert chromium.find() == system


@pytest.mark.parametrize("works", [True, False])
def test_root_installs_the_system_s_and_else_playwright_s(machine, monkeypatch, works):
    program(machine.folder / "apt-get")
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    machine.works = works
    chromium.get()
    assert machine.tried[0][:2] == ["apt-get", "update"]
    assert ("playwright" in machine.tried[-1]) == (not works)


def test_an_ordinary_user_gets_playwright_s(machine, monkeypatch):
    program(machine.folder / "apt-get")
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 1000)
    chromium.get()
    assert [each[1:] for each in machine.tried] == [["-m", "playwright", "install", "chromium"]]


@pytest.mark.parametrize(
    ("said", "required"),
    [({}, False), ({"CI": ""}, False), ({"CI": "false"}, False), ({"CI": "true"}, True), ({"CI": "yes"}, True)],
)
def test_tests_fail_without_one_under_ci(said, required):
    assert chromium.must_be_there(said) is required
