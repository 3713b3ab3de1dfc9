import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from councilsite import postgres

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

# Starts the server of the folder given, says so, and serves until it is told to go on.
STARTER = """
import sys
from pathlib import Path
from councilsite import postgres
try:
    with postgres.serving(Path(sys.argv[1])):
        print("serving", flush=True)
        sys.stdin.read()
except postgres.Unavailable as error:
    print(error)
"""


@pytest.fixture
def var():
    """A folder with a short path, whatever pytest's is."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        yield Path(folder) / "var"


@pytest.fixture
def starter(var):
    """Starts processes that serve the database of `var`."""
    started = []

    def start(*prefix: str, python: str = sys.executable) -> subprocess.Popen:
        process = subprocess.Popen(
            [*prefix, python, "-c", STARTER, str(var)],
            cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()
    if sys.platform == "linux":
        # Their servers end with them, a moment later; then the folder can go.
        wait_until(lambda: not server_processes(var))


def query(var: Path, sql: str) -> list:
    where = {"host": str(postgres.socket_directory(var)), "user": "council", "dbname": "council"}
    with psycopg.connect(**where) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def server_processes(var: Path) -> list[int]:
    return postgres.Server(var)._processes()


def of_its_processes(var: Path, attribute: str) -> set:
    """What each has that still runs: one may end while the others are asked."""
    ours = set(server_processes(var))
    return {process.info[attribute] for process in psutil.process_iter(["pid", attribute]) if process.pid in ours}


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_written_is_there_after_a_restart(var):
    with postgres.serving(var):
        query(var, "CREATE TABLE kept AS SELECT 'ä' AS letter")
    assert not server_processes(var)
    assert not postgres.running(var)
    with postgres.serving(var):
        assert query(var, "SELECT letter, upper(letter) FROM kept") == [("ä", "Ä")]


def test_nobody_else_may_enter_and_no_port_is_open(var):
    with postgres.serving(var):
        assert (var / "postgres").stat().st_mode & 0o777 == 0o700
        assert query(var, "SHOW listen_addresses") == [("",)]
        postmaster = psutil.Process(server_processes(var)[0])
        assert postmaster.net_connections("inet") == []


def test_a_second_command_shares_the_server_and_the_first_waits_for_it(var, starter):
    first = starter()
    assert first.stdout.readline() == "serving\n"
    second = starter()
    assert second.stdout.readline() == "serving\n"
    (postmaster, *_) = server_processes(var)
    assert psutil.Process(postmaster).ppid() == first.pid
    first.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(1)
    assert postgres.running(var)
    second.stdin.close()
    assert (second.wait(30), first.wait(30)) == (0, 0)
    assert not server_processes(var)


def test_two_that_start_at_once_end_with_one_server(var, starter):
    var.mkdir()
    both = [starter(), starter()]
    assert [process.stdout.readline() for process in both] == ["serving\n", "serving\n"]
    assert len(of_its_processes(var, "ppid") & {process.pid for process in both}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_it_ends_when_its_parent_is_killed(var, starter):
    process = starter()
    process.stdout.readline()
    assert server_processes(var)
    process.kill()
    wait_until(lambda: not server_processes(var))


def test_a_start_after_a_kill_waits_for_what_was_left(var, starter):
    process = starter()
    process.stdout.readline()
    query(var, "CREATE TABLE kept ()")
    left = server_processes(var)
    process.kill()
    process.wait()  # while it lives it holds the folder, and we would share its server
    with postgres.serving(var):
        assert not set(server_processes(var)) & set(left)
        assert query(var, "SELECT * FROM kept") == []


def test_a_server_that_was_killed_itself_is_started_again(var):
    server = postgres.Server(var)
    var.mkdir()
    assert server.start()
    query(var, "CREATE TABLE kept ()")
    os.kill(server._process.pid, signal.SIGKILL)
    server.stop()
    with postgres.serving(var):
        assert query(var, "SELECT * FROM kept") == []


def test_a_pid_file_that_names_another_process_is_no_obstacle(var):
    with postgres.serving(var):
        pass
    lines = [str(os.getpid()), str(var / "postgres"), "0", "5432", str(var / "postgres"), "", "0 0", "ready"]
    (var / "postgres" / "postmaster.pid").write_text("\n".join(lines))
    (var / "postgres" / ".s.PGSQL.5432.lock").write_text("\n".join(lines))
    with postgres.serving(var):
        assert query(var, "SELECT 1") == [(1,)]


def test_an_interrupted_first_start_is_begun_again(var):
    (var / "postgres.new" / "base").mkdir(parents=True)
    (var / "postgres.new" / "PG_VERSION").write_text("18\n")
    with postgres.serving(var):
        assert query(var, "SELECT 1") == [(1,)]


def test_a_long_path_works_too(var):
    deep = var / "/".join(["a-folder-with-a-rather-long-name"] * 4)
    with postgres.serving(deep):
        sockets = postgres.socket_directory(deep)
        assert deep not in sockets.parents
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert query(deep, "SELECT 1") == [(1,)]
    sockets.rmdir()


def test_a_socket_folder_that_others_may_enter_is_refused(var):
    deep = var / "/".join(["a-folder-with-a-rather-long-name"] * 4)
    sockets = postgres.socket_directory(deep)
    sockets.mkdir()
    sockets.chmod(0o755)
    with pytest.raises(postgres.Unavailable, match="open to others"), postgres.serving(deep):
        pass
    sockets.rmdir()


def test_another_major_version_stops_with_instructions_and_changes_nothing(var):
    with postgres.serving(var):
        query(var, "CREATE TABLE kept ()")
    version = var / "postgres" / "PG_VERSION"
    brought = version.read_text()
    version.write_text("17\n")
    with pytest.raises(postgres.Unavailable) as caught, postgres.serving(var):
        pass
    assert "PostgreSQL 17" in str(caught.value)
    assert "docs/operate.md" in str(caught.value)
    assert version.read_text() == "17\n"
    version.write_text(brought)
    with postgres.serving(var):
        assert query(var, "SELECT * FROM kept") == []


def test_it_says_why_the_server_did_not_start(var):
    with postgres.serving(var):
        pass
    with (var / "postgres" / "postgresql.conf").open("a") as file:
        file.write("\nno_such_setting = 1\n")
    with pytest.raises(postgres.Unavailable, match="no_such_setting"), postgres.serving(var):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_an_ordinary_user_can_run_it_and_root_does_not_take_it_over(var, starter):
    var.mkdir()
    var.parent.chmod(0o755)
    os.chown(var, 65534, 65534)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    process = starter(*become, python=_python_for_all(become))
    assert process.stdout.readline() == "serving\n"
    assert {uids.real for uids in of_its_processes(var, "uids")} == {65534}
    process.stdin.close()
    assert process.wait(30) == 0
    with pytest.raises(postgres.Unavailable, match="belongs to"), postgres.serving(var):
        pass


def _python_for_all(become: list[str]) -> str:
    """A Python that another user can run, with what is installed here."""
    probe = "import subprocess, sys, psycopg, councilsite; subprocess.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*become, python, "-c", probe]
        if subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("another user cannot read this checkout or its Python")


NO_NAMESPACES = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a user namespace")
def test_root_without_user_namespaces_is_told_what_to_do(var, starter):
    if not shutil.which("unshare") or subprocess.run([*NO_NAMESPACES, "true"], check=False).returncode:
        pytest.skip("cannot make a place where user namespaces are refused")
    var.mkdir()
    assert "ordinary user, or set DATABASE_URL" in starter(*NO_NAMESPACES).stdout.readline()
