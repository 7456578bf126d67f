"""The verbs over MCP: stdio and HTTP, with the library's own client; broken, huge and hostile requests; clients and servers that are killed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from test_verbs import IDEA

from vortex_attention.discover import verbs
from vortex_attention.discover.study import Study
from vortex_attention.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::mcp.MCPDeprecationWarning")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def command(ledger, *more):
    return ["-m", "vortex_attention", "mcp", "--study", "one", "--ledger", str(ledger), "--idle", "1", *more]


def over_stdio(ledger, *more):
    return StdioServerParameters(command=sys.executable, args=command(ledger, *more), env=ENVIRONMENT)


@contextlib.contextmanager
def http(ledger, *more):
    """(address, process) of a server."""
    process = subprocess.Popen(
        [sys.executable, *command(ledger, "--http", "--port", "0", *more)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/mcp", process.stderr.readline())
        assert address, process.stderr.read()
        yield address[0], process
    finally:
        process.kill()
        process.wait()


async def ask(client, tool, **given):
    result = await client.call_tool(tool, given)
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content["error"] if result.is_error else result.structured_content


def test_a_session_over_stdio(tmp_path):
    """From nothing to a published flow; every answer is held to its schema by the client."""
    told = []

    async def progress(done, of, message):
        told.append((done, of, message))

    async def session():
        async with Client(over_stdio(tmp_path / "l.sqlite")) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == [name.replace("-", "_") for name in verbs.VERBS]
            assert all(tool.input_schema["additionalProperties"] is False and tool.output_schema for tool in tools)
            assert (await ask(client, "frontier"))["todo"] == "begin one: vortex study begin, or vortex discover"
            assert (await ask(client, "begin", evaluator="null", items=8))["study"] == "one"
            one = await ask(client, "propose", flow=IDEA, hypothesis="four means find more", agent="a")
            assert (await ask(client, "submit", proposal=one["proposal"], agent="a"))["job"] in ("queued", "running")
            state = (
                await client.call_tool("wait", {"proposal": one["proposal"]}, progress_callback=progress)
            ).structured_content
            assert state["job"] == "done" and state["status"] == "passed"
            assert (
                [done for done, _, _ in told] == sorted({done for done, _, _ in told})
                and told[-1][:2] == (4, 4)
                and "full attention" in told[-1][2]
            )
            assert (await ask(client, "result", proposal=one["proposal"]))["paid_by"]["bench"] == "a"
            assert "hash" in (await ask(client, "publish", proposal=one["proposal"]))["text"]

            # What a caller could have done otherwise says what to do.
            for tool, given, words in (
                ("propos", {}, 'did you mean "propose"?'),
                ("submit", {"propsal": 1}, 'did you mean "proposal"?'),
                ("submit", {}, "the argument proposal"),
                ("result", {"proposal": 99}, "it has 1, the latest is 1"),
                ("frontier", {"study": "on"}, 'did you mean "one"?'),
                ("frontier", {"study": 7}, "the name of a study"),
                ("wait", {"proposal": 1, "timeout": "long"}, "a number"),
                ("propose", {"flow": "#" * 1_000_000, "hypothesis": "h"}, "at most 262144 characters; 1000000"),
                ("propose", {"flow": IDEA, "hypothesis": "h" * 3_000_000}, "at most 8192 characters"),
            ):
                result = await client.call_tool(tool, given)
                assert result.is_error and words in result.structured_content["error"]["message"], result

            # Hostile flows: traced behind walls, kept with the reason, and the server goes on.
            target = tmp_path / "written"
            for flow in (
                f"open({str(target)!r}, 'w')\n",
                "import os; os._exit(1)\n",
                "while True: pass\n",
                "x = 'a' * 10**10\n",
                "import socket; socket.create_connection(('127.0.0.1', 80))\n",
                "import sys; sys.stdout.write('{}' * 100000); sys.stdout.flush()\n" + "1/0\n",
            ):
                bad = await ask(client, "propose", flow=flow + IDEA, hypothesis="h", agent="hacker")
                assert bad["status"] == "failed" and bad["error"]["message"], bad
            assert not target.exists()
            assert (await ask(client, "accounts"))["agents"][1]["by_status"] == {"failed": 6}

    anyio.run(session)


def test_many_clients_over_http(tmp_path):
    """Two agents at once on one study: turns and accounts of both."""

    async def agent(address, name, budgets):
        async with Client(address) as client:
            ids = []
            for budget in budgets:
                one = await ask(
                    client, "propose", flow="quest", settings={"budget": budget}, hypothesis="h", agent=name
                )
                await ask(client, "submit", proposal=one["proposal"], agent=name)
                ids.append(one["proposal"])
            for id in ids:
                while (await ask(client, "wait", proposal=id))["job"] != "done":
                    pass

    async def session(address):
        async with Client(address) as client:
            await ask(client, "begin", evaluator="null", items=8)
        async with anyio.create_task_group() as group:
            for name, budgets in (("a", (20, 22, 24)), ("b", (26, 28, 30))):
                group.start_soon(agent, address, name, budgets)
        async with Client(address) as client:
            accounts = await ask(client, "accounts")
            assert [(one["agent"], one["proposals"]) for one in accounts["agents"]] == [
                ("a", 3),
                ("b", 3),
            ] and accounts["queue"] == []

    with http(tmp_path / "l.sqlite") as (address, _):
        anyio.run(session, address)
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        verdicts = [verdict for gates in Study.open(ledger, "one").verdicts().values() for verdict in gates.values()]
        assert ledger.rows("SELECT count(*) AS n FROM run")[0]["n"] == sum(
            verdict.run is not None for verdict in verdicts
        )


def post(address, body, **headers):
    base = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(
        address, body, base | {name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(10_000)
    except urllib.error.HTTPError as error:
        return error.code, error.read(10_000)
    except (urllib.error.URLError, ConnectionError) as error:
        if len(body) > 1 << 20:  # it hung up on what is too large
            return 413, b""
        raise AssertionError(f"no answer to {body[:40]!r}") from error


def test_broken_requests_over_http_hurt_nobody(tmp_path):
    async def session(address):
        async with Client(address) as client:
            assert (await ask(client, "begin", evaluator="null"))["began"]
            with pytest.raises(MCPError):
                await client.read_resource("file:///etc/passwd")

    with http(tmp_path / "l.sqlite") as (address, process):
        assert post(address, b"{")[0] in (400, 415)
        assert post(address, b"\xff\xfe" * 1000)[0] == 400
        assert post(address, b'{"jsonrpc": "2.0", "id": 1, "method": "no/such"}')[0] in (200, 400, 404)
        assert post(address, b"[" * 100_000)[0] == 400
        assert post(address, b'"' + b"x" * (6 << 20) + b'"')[0] == 413
        assert post(address, b"{}", Host="evil.example")[0] in (403, 421)
        assert post(address, b"{}", Origin="http://evil.example")[0] == 403
        anyio.run(session, address)
        assert process.poll() is None


def test_broken_lines_over_stdio_hurt_nobody(tmp_path):
    process = subprocess.Popen(
        [sys.executable, *command(tmp_path / "l.sqlite")],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    hello = {"jsonrpc": "2.0", "id": 7, "method": "initialize",
             "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}  # fmt: skip
    for line in (b"{", b"\xff\xfe\x00", b"[]", b'{"jsonrpc": "2.0"}', b"x" * (2 << 20), json.dumps(hello).encode()):
        process.stdin.write(line + b"\n")
    process.stdin.flush()
    answers = []
    while not any(answer.get("id") == 7 for answer in answers):
        answers.append(json.loads(process.stdout.readline()))  # every line is a message
    assert answers[-1]["result"]["serverInfo"]["name"] == "vortex"
    process.stdin.close()
    assert process.wait(20) == 0


def test_a_killed_server_loses_nothing(tmp_path):
    """Killed right after it took a job: the worker that it started goes on; another server knows the handle. And where no worker may be started,
    the job waits for one."""

    async def submit(address):
        async with Client(address) as client:
            await ask(client, "begin", evaluator="null", items=8)
            ids = [
                (await ask(client, "propose", flow="quest", settings={"budget": budget}, hypothesis="h"))["proposal"]
                for budget in (20, 22)
            ]
            await ask(client, "submit", proposal=ids[0])
            return ids

    async def wait(parameters, id, submit_first=False):
        async with Client(parameters) as client:
            if submit_first:
                assert (await ask(client, "submit", proposal=id))["workers"] == []
                state = await ask(client, "wait", proposal=id, timeout=0.5)
                assert state["job"] == "queued" and state["note"] == "nobody is at work on this study"
                return state
            return await ask(client, "wait", proposal=id)

    ledger = tmp_path / "l.sqlite"
    with http(ledger) as (address, process):
        first, second = anyio.run(submit, address)
        process.send_signal(signal.SIGKILL)
    assert anyio.run(wait, over_stdio(ledger), first)["job"] == "done"
    with Ledger.open(ledger) as opened:
        study = Study.open(opened, "one")
        assert (
            list(study.verdicts()[first]) == ["check", "screen", "gate", "bench"]
            and opened.rows("SELECT count(*) AS n FROM run")[0]["n"] == 3
        )
        from vortex_attention.discover.worker import at_work

        deadline = time.monotonic() + 30
        while at_work(study) and time.monotonic() < deadline:  # it ends when it has been idle
            time.sleep(0.1)
    anyio.run(wait, over_stdio(ledger, "--no-worker"), second, True)
    assert anyio.run(wait, over_stdio(ledger), second)["job"] == "done"


def test_a_killed_client_loses_nothing(tmp_path):
    """It dies while it waits, its server with it; the job goes on."""
    ledger = tmp_path / "l.sqlite"
    code = f"""
import anyio, sys
from mcp import Client
from mcp.client.stdio import StdioServerParameters
async def main():
    async with Client(StdioServerParameters(command=sys.executable, args={command(ledger)!r}, env={{"PYTHONPATH": {ENVIRONMENT["PYTHONPATH"]!r}}})) as client:
        await client.call_tool("begin", {{"evaluator": "null", "items": 8}})
        await client.call_tool("propose", {{"flow": "quest", "hypothesis": "h"}})
        await client.call_tool("submit", {{"proposal": 1}})
        print("submitted", flush=True)
        await client.call_tool("wait", {{"proposal": 1}})
        await anyio.sleep(60)
anyio.run(main)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert client.stdout.readline() == "submitted\n"
    client.kill()
    client.wait()
    with Ledger.open(ledger) as opened:
        study, deadline = Study.open(opened, "one"), time.monotonic() + 60
        while len(study.verdicts().get(1, {})) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(study.verdicts()[1]) == ["check", "screen", "gate", "bench"]
