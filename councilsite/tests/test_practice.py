import asyncio
import ipaddress
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import psutil
import pytest

from council import practice
from councilsite.tests.processes import wait_until_gone

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture
async def server():
    server = practice.Practice()
    yield server
    await server.stop()


def child(server: practice.Practice) -> psutil.Process:
    return psutil.Process(server._child.pid)


async def test_it_streams_an_answer_and_its_usage(server):
    body = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 20,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    pieces, usage = [], None
    async with (
        httpx.AsyncClient(base_url=await server.address(), timeout=120) as client,
        client.stream("POST", "/chat/completions", json=body) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                pieces += [choice["delta"].get("content") or "" for choice in event["choices"]]
                usage = event.get("usage") or usage
    assert len([piece for piece in pieces if piece]) > 1
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0


async def test_it_keeps_to_a_schema(server):
    schema = {
        "type": "object",
        "properties": {"ranking": {"enum": ["A>B", "B>A"]}},
        "required": ["ranking"],
        "additionalProperties": False,
    }
    body = {
        "messages": [{"role": "user", "content": "Rank A and B."}],
        "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": {"name": "ballot", "strict": True, "schema": schema}},
    }
    async with httpx.AsyncClient(base_url=await server.address(), timeout=120) as client:
        response = await client.post("/chat/completions", json=body)
    assert json.loads(response.json()["choices"][0]["message"]["content"])["ranking"] in {"A>B", "B>A"}


async def test_many_who_ask_at_once_share_one_on_loopback(server):
    addresses = await asyncio.gather(*(server.address() for _ in range(5)))
    assert len(set(addresses)) == 1
    for connection in child(server).net_connections("inet"):
        assert ipaddress.ip_address(connection.laddr.ip).is_loopback


async def test_no_proxy_is_asked_for_it(server, monkeypatch):
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies that it has seen first
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await server.address()


async def test_they_may_ask_from_more_than_one_loop(server):
    """A worker's, and that of an administrator who tries it from a page."""
    beside = asyncio.to_thread(lambda: asyncio.run(server.address()))
    addresses = await asyncio.gather(server.address(), server.address(), beside, server.address())
    assert len(set(addresses)) == 1


async def test_it_is_stopped_while_it_starts(server):
    starting = asyncio.create_task(server.address())
    while not server._child:
        await asyncio.sleep(0.01)
    await server.stop()
    with pytest.raises(practice.PracticeUnavailable, match="did not start"):
        await starting
    assert server._child is None


async def test_one_that_died_is_replaced_when_it_is_needed(server):
    await server.address()
    dead = child(server)
    dead.kill()
    server._child.wait()
    async with httpx.AsyncClient(timeout=120) as client:
        assert (await client.get(f"{await server.address()}/models")).status_code == 200
    assert child(server).pid != dead.pid


async def test_stop_ends_it(server):
    await server.address()
    process = child(server)
    await server.stop()
    assert not process.is_running()


def test_it_ends_when_its_parent_is_killed():
    code = (
        "import asyncio; from council import practice; server = practice.Practice()\n"
        "async def main():\n await server.address(); print(server._child.pid, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_until_gone([process])


async def test_where_it_is_not_installed_it_says_so(server, monkeypatch):
    monkeypatch.setattr(practice.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(practice.PracticeUnavailable, match="not installed"):
        await server.address()


async def test_one_that_cannot_start_gives_its_reason(server, monkeypatch, tmp_path):
    failing = tmp_path / "failing.py"
    failing.write_text("raise SystemExit('no such processor')")
    monkeypatch.setattr(practice, "__file__", str(failing))
    with pytest.raises(practice.PracticeUnavailable, match="no such processor"):
        await server.address()
