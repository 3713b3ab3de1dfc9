"""Starts the site's own commands as a person would, for tests."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds; a busy machine is slow, and no test asks how slow
OURS = {"DATABASE_URL", "SECRET_KEY", "FIELD_KEYS", "DJANGO_SETTINGS_MODULE", "DJANGO_ALLOW_ASYNC_UNSAFE", "VAR_DIR"}


class Program:
    """A Python program, in the environment given and nothing else of the tests', and what it has said so far."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said += line

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for words that match."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.said)):
            assert self.process.poll() is None or self._reader.is_alive(), f"it ended and said:\n{self.said}"
            assert time.monotonic() < deadline, f"it said:\n{self.said}"
            time.sleep(0.02)
        return match

    def ends(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def signal(self, number: signal.Signals) -> int:
        """Send the signal and wait for the end."""
        self.process.send_signal(number)
        return self.ends()

    def family(self) -> list[psutil.Process]:
        """It and all that it has started."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def close(self) -> None:
        """End it where it still runs, and wait for all that it has started: its folder may be about to go."""
        try:
            if self.process.poll() is None:
                family = self.family()
                self.process.kill()
                self.ends()
                wait_until_gone(family)
            self.ends()
        finally:
            self.process.stdout.close()


class Command(Program):
    """`manage.py` with arguments, over a `var/` of its own."""

    def __init__(self, var: Path, *arguments: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if name not in OURS}
        super().__init__("manage.py", *arguments, **{**clean, "VAR_DIR": str(var), **environment})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Ours were waited for; the ones of a killed parent end by themselves and init may be slow to reap them."""
    deadline = time.monotonic() + PATIENCE
    while left := [each for each in processes if not _is_gone(each)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two
        return True
