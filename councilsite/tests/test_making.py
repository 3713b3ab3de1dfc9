"""What the two commands of the README do: read, not carried out."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def told(*targets: str) -> str:
    """What make would do for these, if nothing were there."""
    command = ["make", "--dry-run", "--always-make", *targets]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["run", "test"])
def test_what_they_install_is_what_was_locked(target):
    installs = [line for line in told(target).splitlines() if " install " in line]
    assert installs
    for line in installs:
        assert "--require-hashes --no-deps" in line
        assert re.search(r"-r requirements/(base|test)\.txt", line)


def test_run_starts_the_site():
    assert told("run").splitlines()[-1].endswith("manage.py up")


def test_test_gets_a_browser_and_runs_all():
    *_, browser, tests = told("test").splitlines()
    assert "-m councilsite.tests.chromium" in browser
    assert re.search(r"-m pytest -n auto( |$)", tests)
    assert " -k " not in tests
    assert "ruff check" in told("test")


def test_ci_runs_the_same():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"


@pytest.mark.parametrize("name", ["base", "test"])
def test_every_package_is_pinned_with_hashes_and_without_an_address(name):
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    packages = re.split(r"^(?=[\w.-]+(?:\[[\w,]+\])?==)", lock, flags=re.MULTILINE)[1:]
    assert len(packages) > 20
    for package in packages:
        assert "--hash=sha256:" in package, package
    assert "://" not in re.sub(r"^\s*#.*$", "", lock, flags=re.MULTILINE)
