import http.client
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from conversations.working import STALLED
from councilsite.tests.processes import PATIENCE, Command, free_port, wait_until_gone

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

KEYS = {"SECRET_KEY": "k" * 50, "FIELD_KEYS": "dGVzdHMgb25seTogbm90IGEgc2VjcmV0IGF0IGFsbCE="}


@pytest.fixture(scope="module")
def prepared():
    """A `var/` after its first start: database migrated, static files collected."""
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        var = Path(folder) / "var"
        first = Command(var, "up", "--port", str(free_port()))
        try:
            first.says("Open http://localhost")
            assert first.signal(signal.SIGTERM) == 0
        finally:
            first.close()
        yield var, first.said


@pytest.fixture
def var(prepared):
    """A copy of it: what a test does to it stays there."""
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        shutil.copytree(prepared[0], copy := Path(folder) / "var")
        yield copy


@pytest.fixture
def command(var):
    """Starts commands over `var`."""
    started = []

    def start(*arguments: str, **environment: str) -> Command:
        started.append(Command(var, *arguments, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()


def get(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": f"localhost:{port}", **headers})
    response = connection.getresponse()
    response.text = response.read().decode()
    connection.close()
    return response


def test_the_first_start_says_little_and_offers_the_administrators_link(prepared):
    _var, said = prepared
    lines = said.splitlines()
    assert lines[0] == "Preparing the database …"
    assert lines[1].startswith("Open http://localhost:")
    assert "administrator" in lines[2]
    assert lines[2].split()[-1].startswith(lines[1].removeprefix("Open "))
    assert lines[3:] == ["Ctrl-C stops it.", "Stopped."]


def test_a_later_start_serves_pages_with_their_files(command):
    port = free_port()
    up = command("up", PORT=str(port))
    assert up.says(r"Open (\S+)")[1] == f"http://localhost:{port}"
    assert "Preparing" not in up.said
    assert get(port, "/healthz").text == "ok\n"
    page = get(port, "/accounts/login/")
    assert page.status == 200
    path = page.text.split('href="/static/')[1].split('"')[0]
    file = get(port, f"/static/{path}")
    assert file.status == 200
    assert "immutable" in file.headers["Cache-Control"]


def test_it_is_ready_and_has_its_figures_scraped(command):
    port, figures = free_port(), free_port()
    up = command("up", PORT=str(port), METRICS_PORT=str(figures))
    up.says("Ctrl-C")
    deadline = time.monotonic() + PATIENCE
    while (ready := get(port, "/readyz")).status != 200:  # its worker begins a moment later
        assert time.monotonic() < deadline, ready.text
        time.sleep(0.1)
    assert ready.text == "database: ok\nmigrations: ok\nqueue: ok\nworker: ok\nchannel layer: ok\n"
    told = get(figures, "/metrics").text.splitlines()
    assert {'council_ready{part="worker"} 1.0', "council_deliberations_here 0.0", "council_sockets 0.0"} <= set(told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_ends_all_that_it_started(command, number):
    up = command("up", "--port", str(free_port()))
    up.says("Open")
    family = up.family()
    assert any("postgres" in each.name() for each in family)
    assert up.signal(number) == 0
    wait_until_gone(family)
    assert up.said.endswith("Stopped.\n")


def test_it_stops_quietly_with_connections_open(command):
    port = free_port()
    up = command("up", "--port", str(port))
    up.says("Ctrl-C")
    with socket.create_connection(("127.0.0.1", port)) as idle, socket.create_connection(("127.0.0.1", port)) as kept:
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(12) == b"HTTP/1.1 200"
        assert up.signal(signal.SIGINT) == 0
        assert idle.recv(1) == b""
    assert up.said.endswith("Ctrl-C stops it.\nStopped.\n")


def test_a_start_after_a_kill_works_and_nothing_of_the_first_is_left(command):
    port = free_port()
    first = command("up", "--port", str(port))
    first.says("Open")
    family = first.family()
    first.signal(signal.SIGKILL)
    second = command("up", "--port", str(port))
    second.says("Open")
    assert get(port, "/accounts/login/").status == 200
    wait_until_gone(family)


def test_a_second_one_says_so(command):
    command("up", "--port", str(free_port())).says("Open")
    second = command("up", "--port", str(free_port()))
    assert second.ends() == 1
    assert "running already" in second.said
    assert "Traceback" not in second.said


@pytest.fixture
def taken_port():
    """One that another program listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_in_use_is_named(command, taken_port):
    up = command("up", "--port", str(taken_port))
    assert up.ends() == 1
    assert f"Port {taken_port} is in use" in up.said
    assert "Traceback" not in up.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PORT": "99999"}, "1 to 65535"),
        ({"PORT": "-1"}, "1 to 65535"),
        ({"HOST": "nonsense.invalid"}, "Cannot listen on nonsense.invalid"),
        ({"DATABASE_URL": "foo", **KEYS}, "DATABASE_URL must say where the database is"),
    ],
)
def test_a_mistyped_setting_is_refused_in_words(command, given, said):
    up = command("up", **given)
    assert up.ends() == 1
    assert said in up.said
    assert "Traceback" not in up.said


def test_a_server_that_cannot_listen_says_so(command, taken_port):
    code = f"from councilsite import embedded; embedded.run('127.0.0.1', {taken_port}, print)"
    serving = command("shell", "--no-imports", "-c", code)
    assert serving.ends() == 1
    assert f"Couldn't listen on 127.0.0.1:{taken_port}" in serving.said


def test_host_is_where_it_listens_and_what_it_prints(command):
    port = free_port()
    up = command("up", "--no-practice", HOST="127.0.0.2", PORT=str(port))
    up.says(f"Open http://127.0.0.2:{port}")
    up.says("There is no council to ask")
    connection = http.client.HTTPConnection("127.0.0.2", port, timeout=60)
    connection.request("GET", "/accounts/login/")
    assert connection.getresponse().status == 200
    connection.close()


def test_help_needs_no_database(command, var):
    shutil.rmtree(var)
    told = command("up", "--help")
    assert told.ends() == 0
    for word in ("--port", "--host", "--no-practice", "Ctrl-C"):
        assert word in told.said
    assert not (var / "postgres").exists()


def test_it_says_how_to_let_other_machines_in(command):
    up = command("up", "--host", "0.0.0.0", "--port", str(free_port()))
    up.says("SITE_URL=http://")


def test_the_worker_is_a_process_of_its_own_too(command):
    worker = command("worker")
    worker.says("Working")
    family = worker.family()
    assert worker.signal(signal.SIGTERM) == 0
    wait_until_gone(family)
    assert "Traceback" not in worker.said


def test_a_command_uses_the_running_database(command):
    up = command("up", "--port", str(free_port()))
    up.says("Open")
    code = "from conversations.working import worker_alive; print('alive:', worker_alive())"
    shell = command("shell", "--no-imports", "-c", code)
    assert shell.ends() == 0
    assert "alive: True" in shell.said
    assert up.signal(signal.SIGINT) == 0
    # The start that `var` is a copy of was ended in its first moment; a worker cut then counts until it is stalled.
    wait = f"import time; time.sleep({STALLED}); "
    later = command("shell", "--no-imports", "-c", wait + code)
    assert later.ends() == 0
    assert "alive: False" in later.said


def test_what_is_meant_for_another_postgresql_does_not_matter(command):
    up = command("up", "--port", str(free_port()), PGPORT="1", PGHOST="nowhere.invalid", PGUSER="nobody")
    up.says("Open http://localhost")


def test_a_database_that_cannot_be_reached_is_said_with_its_reason(command):
    url = f"postgresql://someone:a-password@127.0.0.1:{free_port()}/council"
    up = command("up", "--port", str(free_port()), DATABASE_URL=url, **KEYS)
    assert up.ends() == 1
    assert "DATABASE_URL names cannot be reached" in up.said
    assert "refused" in up.said
    assert "Traceback" not in up.said
    assert "a-password" not in up.said


def test_missing_keys_are_said_without_a_traceback(command):
    up = command("up", "--port", str(free_port()), DATABASE_URL="postgresql://127.0.0.1:1/council")
    assert up.ends() == 1
    assert "SECRET_KEY and FIELD_KEYS must come from the environment" in up.said
    assert "Traceback" not in up.said
