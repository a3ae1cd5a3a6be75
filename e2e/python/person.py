"""A person whose client is Supabase's Python library, told what to do and telling what it sees in lines of JSON.

Commands come on the standard input, `{"id": 1, "do": "track", …}`; each is answered `{"id": 1}` or `{"id": 1, "error": …}`.
What the library reports goes out as `{"on": …}`.
"""

import asyncio
import json
import sys

from realtime import AsyncRealtimeClient


def say(**line):
    print(json.dumps(line), flush=True)


class Person:
    def __init__(self, url, token):
        # Quick to come back, and for as long as a test may take.
        self.client = AsyncRealtimeClient(url, token, initial_backoff=0.1, max_retries=20)
        self.channel = None

    async def do_join(self, name, config, meta=None):
        self.channel = channel = self.client.channel(name, {"config": config})
        channel.on_presence_sync(lambda: say(on="presence", state=channel.presence_state()))
        channel.on_broadcast("note", lambda payload: say(on="broadcast", payload=payload))
        channel.on_system(lambda payload: say(on="system", payload=payload))

        def on_status(status, error):
            say(on="status", status=status.value, error=str(error) if error else None)
            if status.value == "SUBSCRIBED" and meta is not None:
                # As applications do it: present again after each join.
                asyncio.get_running_loop().create_task(channel.track(meta))

        await channel.subscribe(on_status)

    async def do_track(self, meta):
        await self.channel.track(meta)

    async def do_untrack(self):
        await self.channel.untrack()

    async def do_send(self, payload):
        await self.channel.send_broadcast("note", payload)

    async def do_http_send(self, payload):
        await self.channel.http_send("note", payload)

    async def do_auth(self, token):
        await self.client.set_auth(token)

    async def do_leave(self):
        await self.channel.unsubscribe()


async def run(person, command):
    try:
        arguments = {key: value for key, value in command.items() if key not in ("id", "do")}
        await getattr(person, f"do_{command['do']}")(**arguments)
        say(id=command["id"])
    except Exception as error:
        say(id=command["id"], error=repr(error))


async def main(url, token):
    person = Person(url, token)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = set()
    while line := await lines.readline():
        task = asyncio.create_task(run(person, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main(sys.argv[1], sys.argv[2]))
