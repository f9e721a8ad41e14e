"""Python's `websockets` against the gateway: `python python_websockets.py ws://HOST:PORT [ROOM COUNT]`.

With a room, it is a member of it.
"""

import asyncio
import json
import random
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

SIZES = [0, 1, 125, 126, 65535, 65536, 300_000]
UNICODE = "grüße, 世界, \0 \u07ff \uffff 🦀\U0010ffff"


async def echoes(base):
    async with connect(base + "/echo") as ws:
        for size in SIZES:
            for message in ["x" * size, bytes(n & 255 for n in range(size))]:
                await ws.send(message)
                check(await ws.recv(), message, f"{type(message).__name__} of {size}")
        await ws.send(UNICODE)
        check(await ws.recv(), UNICODE, "a text of every UTF-8 length")


async def joins_fragments(base):
    async with connect(base + "/echo") as ws:
        for parts in [["a", "", "b🦀", "c" * 70_000], [b"", b"\x00" * 70_000, b"\xff"], [""] * 100]:
            await ws.send(parts)
            check(await ws.recv(), type(parts[0])().join(parts), f"{len(parts)} fragments")


async def answers_pings_between_fragments(base):
    async with connect(base + "/echo") as ws:

        async def parts():
            yield "before "
            await (await ws.ping(b"between"))
            yield "after"

        await ws.send(parts())
        check(await ws.recv(), "before after", "a text around a ping")
        for payload in [b"", b"x", b"y" * 125]:
            await (await ws.ping(payload))


async def keeps_order(base):
    async with connect(base + "/echo") as ws:

        async def send_all():
            for n in range(1000):
                await ws.send(f"message {n}" if n % 2 else b"%d" % n)

        sending = asyncio.create_task(send_all())
        for n in range(1000):
            check(await ws.recv(), f"message {n}" if n % 2 else b"%d" % n, "pipelined")
        await sending


async def negotiates_no_subprotocol(base):
    async with connect(base + "/echo", subprotocols=["nobody-speaks-this"]) as ws:
        check(ws.subprotocol, None, "the subprotocol")
        check(ws.response.headers.get("Sec-WebSocket-Protocol"), None, "the answer's header")


async def closes_cleanly(base):
    for path, code in [("/echo", 1000), ("/ws", 1001), ("/echo", 3456)]:
        async with connect(base + path) as ws:
            await ws.close(code, "done")
            check(ws.close_code, code, "the close code")
            check(ws.protocol.close_rcvd.code, code, "the code that the gateway answered")
            check(ws.protocol.close_rcvd_then_sent, False, "who closed first")


async def closes_for_bad_text(base):
    async with connect(base + "/echo") as ws:
        await ws.send(b"\xc3\x28", text=True)
        try:
            await ws.recv()
        except ConnectionClosedError as closed:
            check(closed.rcvd.code, 1007, "the close code")
        else:
            raise AssertionError("bad UTF-8 was answered")


async def refuses_unknown_paths(base):
    try:
        async with connect(base + "/no/such/endpoint"):
            raise AssertionError("connected")
    except InvalidStatus as refused:
        check(refused.response.status_code, 404, "the status")


async def answers_requests(base):
    async with connect(base + "/ws") as ws, connect(base + "/ws") as other:
        answer = await ask(ws, "echo", 1, {"a": [1, 2]})
        check(answer, {"id": 1, "body": {"a": [1, 2]}}, "echo")
        answer = await ask(ws, "no such route", 2)
        check((answer["id"], answer["error"]["code"]), (2, 404), "an unknown route")
        check(isinstance(answer["error"]["message"], str), True, "a message")
        await ws.send("not JSON")
        check(json.loads(await ws.recv())["error"]["code"], 400, "no JSON")
        me, you = (await ask(ws, "whoami", "x"))["body"], (await ask(other, "whoami", 0))["body"]
        check(bool(me["id"]) and me["id"] != you["id"], True, f"ids {me} and {you}")
        now = (await ask(ws, "time", None))["body"]["unix_ms"]
        check(abs(now - time.time() * 1000) < 60_000, True, f"the time {now}")


async def publishes_to_rooms(base):
    async with connect(base + "/ws") as ann, connect(base + "/ws") as ben:
        room = f"room {time.time_ns()}"
        for member in [ann, ben]:
            check("body" in await ask(member, "join", 3, {"room": room}), True, "joined")
        me = (await ask(ann, "whoami", 4))["body"]["id"]
        for id, data, own in [(5, {"n": 1}, False), (6, "all", True), (7, None, False)]:
            event = {"event": "publish", "room": room, "from": me, "data": data}
            body = {"room": room, "data": data, "self": own}
            await ann.send(json.dumps({"route": "publish", "id": id, "body": body}))
            # Between an answer and an event no order is promised.
            got = [json.loads(await ann.recv()) for _ in range(1 + own)]
            check([m["id"] for m in got if "body" in m], [id], f"the answer in {got}")
            check([m for m in got if "event" in m], [event] * own, "what the publisher gets")
            check(json.loads(await ben.recv()), event, "what the other member gets")
        check("body" in await ask(ben, "leave", 8, {"room": room}), True, "left")


async def agrees_to_compress(base):
    async with connect(base + "/echo") as ws:
        check(extensions(ws), ["permessage-deflate"], "the extensions")
    async with connect(base + "/echo", compression=None) as ws:
        check(extensions(ws), [], "the extensions of who offers none")
        await ws.send("x" * 1000)
        check(await ws.recv(), "x" * 1000, "a text without compression")


async def echoes_what_compresses_and_what_does_not(base):
    noise = random.Random(1).randbytes
    async with connect(base + "/echo") as ws:
        for size in [0, 1, 255, 256, 4096, 65_536, 1 << 20]:
            for message in ["all is warm; " * (size // 13), bytes(size), noise(size)]:
                await ws.send(message)
                check(await ws.recv() == message, True, f"{size} bytes coming back")


async def echoes_many_compressed(base):
    async with connect(base + "/echo") as ws:
        texts = [f"message {n} " * (n % 97) for n in range(2000)]

        async def send_all():
            for text in texts:
                await ws.send(text)

        sending = asyncio.create_task(send_all())
        for n, text in enumerate(texts):
            check(await ws.recv() == text, True, f"message {n} coming back")
        await sending


async def be_member(base, room, count):
    """Joins a room and checks what is published to it, which `tests/wss` does."""
    async with connect(base + "/ws", max_size=None) as ws:
        check(extensions(ws), ["permessage-deflate"], "the extensions")
        check("body" in await ask(ws, "join", 1, {"room": room}), True, "joined")
        print("joined", flush=True)
        for n in range(count):
            data = json.loads(await ws.recv())["data"]
            check(data["n"], n, "the order of publishes")
            check(data["text"] == f"tide {n} " * data["times"], True, f"publish {n}")


def extensions(ws):
    return [extension.name for extension in ws.protocol.extensions]


async def ask(ws, route, id, body=None):
    await ws.send(json.dumps({"route": route, "id": id, "body": body}))
    answer = json.loads(await ws.recv())
    check(answer["id"], id, f"the id of {answer}")
    return answer


def check(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r:.200}, not {wanted!r:.200}")


CHECKS = [
    echoes,
    joins_fragments,
    answers_pings_between_fragments,
    keeps_order,
    negotiates_no_subprotocol,
    closes_cleanly,
    closes_for_bad_text,
    refuses_unknown_paths,
    answers_requests,
    publishes_to_rooms,
    agrees_to_compress,
    echoes_what_compresses_and_what_does_not,
    echoes_many_compressed,
]


async def main(base):
    for run in CHECKS:
        try:
            async with asyncio.timeout(20):
                await run(base)
        except Exception as error:
            return f"{run.__name__}: {type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(be_member(sys.argv[1], sys.argv[2], int(sys.argv[3])))
        sys.exit()
    failure = asyncio.run(main(sys.argv[1]))
    if failure:
        sys.exit(f"python_websockets: {failure}")
    print(f"python_websockets: {len(CHECKS)} checks passed: {', '.join(c.__name__ for c in CHECKS)}")
