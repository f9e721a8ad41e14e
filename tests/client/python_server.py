"""Python's `websockets` as the server of tests/client/others.rs: prints its port, serves until killed."""

import asyncio
import json
from http import HTTPStatus

from websockets.asyncio.server import serve


async def echo(ws):
    async for message in ws:
        if message == "ping":
            await (await ws.ping(b"are you there"))
            await ws.send("pong")
        elif message == "extensions":
            await ws.send(",".join(extension.name for extension in ws.protocol.extensions))
        elif message == "fragments":
            await ws.send(["a"] * 10)
        elif message == "close":
            await ws.close(4002, "as asked")
        else:
            await ws.send(message)


async def answer(ws):
    async for message in ws:
        request = json.loads(message)
        await ws.send(json.dumps({"id": request["id"], "body": request["body"]}))


async def handle(ws):
    if ws.request.path == "/echo":
        assert ws.subprotocol == "two", ws.subprotocol
        await echo(ws)
    else:
        await answer(ws)


def admit(connection, request):
    if request.path not in ("/echo", "/json"):
        return connection.respond(HTTPStatus.NOT_FOUND, "no such path\n")
    return None


def choose(connection, offered):
    return "two" if "two" in offered else None


async def main():
    options = {"process_request": admit, "select_subprotocol": choose, "max_size": None}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
