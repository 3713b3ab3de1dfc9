"""What deploys the site fits the site: the image's recipe, the compose file, the proxy's file, the example of settings.

No container is started here. What can be looked at without one is; test_proxied.py runs the processes as the compose
file arranges them.
"""

import fnmatch
import ipaddress
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from councilsite.management.commands import worker
from councilsite.tests.processes import OURS, ROOT, Program

CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text()
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
# `#NAME=` is a setting that may be left out.
VARIABLES = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
SECRET = {"SECRET_KEY", "FIELD_KEYS", "POSTGRES_PASSWORD", "OPENROUTER_API_KEY", "EMAIL_HOST_PASSWORD"}
OWN = {"prepare", "site", "worker"}


def instructions() -> list[tuple[str, str]]:
    """The lines of the Containerfile, each in one piece."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def instruction(name: str) -> str:
    """The one that holds in the image: the last."""
    return [rest for each, rest in instructions() if each == name][-1]


def test_the_linter_finds_nothing_in_the_containerfile():
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Containerfile"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_package_of_the_image_has_a_hash_and_is_a_wheel():
    (install,) = [rest for _, rest in instructions() if "base.txt" in rest and " install " in rest]
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps"} <= set(install.split())


def test_the_process_is_not_root_hears_signals_and_is_looked_at():
    assert instruction("USER") == "10001:10001"
    assert isinstance(json.loads(instruction("CMD")), list)
    assert "http://127.0.0.1:8000/healthz" in instruction("HEALTHCHECK")
    assert instruction("HEALTHCHECK").partition("CMD ")[2].startswith("[")


def test_no_key_is_part_of_the_image():
    names = {name for _, rest in instructions() for name in re.findall(r"\b[A-Z_]{4,}\b(?==)", rest)}
    assert names & SECRET == {"SECRET_KEY", "FIELD_KEYS"}
    (collect,) = [rest for _, rest in instructions() if "SECRET_KEY" in rest]
    assert "collectstatic" in collect


def context(folder: Path) -> None:
    """Copy what .dockerignore lets through."""
    first, *lines = [line for line in IGNORE.splitlines() if line and not line.startswith("#")]
    assert first == "*"
    everywhere = shutil.ignore_patterns(*(line[3:] for line in lines if line.startswith("**/")))
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=everywhere)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def test_the_image_holds_what_the_site_needs_and_nothing_private(tmp_path):
    """Its static files are found as the recipe says, among the files that get into it alone."""
    app, var = tmp_path / "app", tmp_path / "app" / "var"
    context(app)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (floors,) = (each["layers"] for each in contracts if each["type"] == "layers")
    assert {each.name for each in app.iterdir()} == {
        *floors, "static", "templates", "manage.py", "pyproject.toml", "requirements",
    }  # fmt: skip
    assert not [
        path for path in app.rglob("*") if fnmatch.fnmatch(path.name, "test_*") or path.name in {".env", "conftest.py"}
    ]
    (collect,) = [rest for _, rest in instructions() if "collectstatic" in rest]
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    typed = collect.replace("python ", f"{shlex.quote(sys.executable)} ").replace("--verbosity 0", "--dry-run")
    done = subprocess.run(
        ["sh", "-euc", typed],
        cwd=app,
        env={**clean, "VAR_DIR": str(var)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"Pretending to copy '{app}/static/" in done.stdout
    # Keys that are made without being asked for would be the same in every copy of the image.
    assert not var.exists()


def images() -> list[str]:
    return [rest.split()[0] for name, rest in instructions() if name == "FROM"] + [
        each["image"] for name, each in SERVICES.items() if name not in OWN
    ]


@pytest.mark.parametrize("image", images())
def test_every_image_is_pinned_by_its_tag(image):
    assert re.fullmatch(r"[a-z/]+:\d[\w.-]*", image)


def test_the_release_names_our_own_image():
    assert {SERVICES[name]["image"].partition(":?")[0] for name in OWN} == {"llm-council:${RELEASE"}


def test_every_variable_of_the_compose_file_is_asked_for_and_in_the_example():
    used = re.findall(r"\$\{?(\w+)(:\?)?", COMPOSE_TEXT)
    assert used
    assert {name for name, _ in used} <= set(VARIABLES)
    assert all(required for _, required in used)


def test_every_setting_of_the_site_is_in_the_example_or_the_compose_file():
    table = (
        (ROOT / "docs" / "operate.md").read_text().partition("## Which settings are there?")[2].partition("\n## ")[0]
    )
    known = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([A-Z_]+)`", row)
    }
    assert "SITE_URL" in known
    assert known - set(VARIABLES) - set(SERVICES["site"]["environment"]) == {"VAR_DIR", "PORT", "HOST", "HURRY"}


def test_every_variable_of_the_example_is_explained_and_none_is_a_secret():
    for block in EXAMPLE.strip().split("\n\n"):
        assert re.match(r"# [A-Z]", block), block
    assert all(VARIABLES[name] == "" for name in SECRET)
    assert set(VARIABLES) >= SECRET
    assert not [line for line in EXAMPLE.splitlines() if line.startswith("#") and re.fullmatch(r"#[A-Z_]+=.+", line)]


def test_the_keys_are_made_as_the_example_says():
    from cryptography.fernet import Fernet

    made = re.findall(r"Make one: (openssl .*)$", EXAMPLE, re.MULTILINE)
    secret, field, password = (subprocess.check_output(["sh", "-c", each], text=True).strip() for each in made)
    assert len(secret) > 50
    Fernet(field)
    assert password.isalnum()


def commands() -> list[list[str]]:
    """What the site's own containers are started with."""
    return [SERVICES[name].get("command") or json.loads(instruction("CMD")) for name in sorted(OWN)]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_exists(command):
    if command[0] == "daphne":
        assert command[-1] == "councilsite.asgi:application"
        assert re.search(r"^daphne==", (ROOT / "requirements" / "base.txt").read_text(), re.MULTILINE)
    else:
        assert command[:2] == ["python", "manage.py"]
        assert command[2] in get_commands()


def test_the_proxy_alone_is_reached_from_outside_and_alone_is_believed():
    assert [name for name, each in SERVICES.items() if "ports" in each] == ["proxy"]
    assert {name for name, each in SERVICES.items() if "front" in each["networks"]} == {"proxy", "site"}
    (front,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    trusted = ipaddress.ip_network(SERVICES["site"]["environment"]["TRUSTED_PROXIES"])
    assert trusted == ipaddress.ip_network(front["subnet"])
    assert trusted.is_private
    port = re.search(r'"-p", "(\d+)"', instruction("CMD"))[1]
    assert f"reverse_proxy site:{port}" in (ROOT / "deploy" / "Caddyfile").read_text()
    assert "{$SITE_URL}" in (ROOT / "deploy" / "Caddyfile").read_text()
    assert "SITE_URL" in SERVICES["proxy"]["environment"]


def test_the_database_is_where_the_address_says_and_its_log_carries_no_words():
    assert SERVICES["site"]["environment"]["DATABASE_URL"].startswith("postgresql://council:${POSTGRES_PASSWORD")
    assert SERVICES["site"]["environment"]["DATABASE_URL"].endswith("@postgres/council")
    postgres = SERVICES["postgres"]
    assert (postgres["environment"]["POSTGRES_USER"], postgres["environment"]["POSTGRES_DB"]) == ("council", "council")
    assert "log_min_error_statement=panic" in postgres["command"]
    # From version 18 on the image keeps its data below this folder, and refuses another mount.
    assert postgres["volumes"] == ["postgres-data:/var/lib/postgresql"]


def test_what_must_last_is_in_named_volumes():
    mounts = [mount.split(":")[0] for each in SERVICES.values() for mount in each.get("volumes", ())]
    assert {mount for mount in mounts if "/" not in mount} == set(COMPOSE["volumes"])
    assert [mount for mount in mounts if "/" in mount] == ["./deploy/Caddyfile"]
    assert (ROOT / "deploy" / "Caddyfile").exists()


def test_nothing_starts_before_what_it_needs():
    for name in ("site", "worker"):
        assert SERVICES[name]["depends_on"]["prepare"]["condition"] == "service_completed_successfully"
        assert SERVICES[name]["environment"]["REDIS_URL"].startswith("redis://valkey:")
    assert SERVICES["prepare"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["prepare"]["restart"] == "no"
    for each in SERVICES.values():
        assert set(each.get("depends_on", ())) <= set(SERVICES)
        assert set(each["networks"]) <= set(COMPOSE["networks"])


def test_a_worker_has_the_time_that_it_gives_its_jobs():
    assert float(SERVICES["worker"]["stop_grace_period"].rstrip("s")) > worker.GRACE


def test_the_health_of_pages_is_asked_of_the_site_alone():
    assert "healthcheck" not in SERVICES["site"]
    assert SERVICES["worker"]["healthcheck"] == SERVICES["prepare"]["healthcheck"] == {"disable": True}


def test_the_document_names_services_and_commands_that_exist():
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    assert set(re.findall(r"manage\.py (\w+)", DOCUMENT)) <= {*get_commands(), "roster"}
    named = re.findall(r"docker compose (?:run|exec|logs|stop|up)((?: --?[\w=-]+| -v \S+)*)((?: [a-z]+)*)", shell)
    assert named
    for _, words in named:
        told = words.split()
        assert not told or told[0] in SERVICES, words


def test_djangos_own_check_of_a_deployment_finds_nothing(tmp_path):
    from cryptography.fernet import Fernet

    checked = Program(
        *("manage.py", "check", "--deploy", "--fail-level", "DEBUG"),
        SITE_URL="https://council.example.org",
        DATABASE_URL="postgresql://council:none@postgres/council",
        REDIS_URL="redis://valkey:6379/0",
        SECRET_KEY=secrets.token_urlsafe(48),
        FIELD_KEYS=Fernet.generate_key().decode(),
        TRUSTED_PROXIES="172.30.255.0/28",
        VAR_DIR=str(tmp_path),
    )
    assert checked.ends() == 0, checked.said
    assert "no issues" in checked.said
    checked.close()


def test_every_variable_of_the_example_is_named_in_a_document():
    documents = DOCUMENT + (ROOT / "docs" / "operate.md").read_text()
    assert [name for name in VARIABLES if f"`{name}`" not in documents] == []
