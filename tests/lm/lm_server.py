"""A local HTTP server whose behaviour a test decides."""

import asyncio
import threading
import time
from collections import Counter

from aiohttp import web


class Server:
    """An HTTP server in a thread. ``behave`` is an async function of (body, number of tries of this content).

    ``log`` has a row [content, time of arrival, time of the answer or None] for every request.
    """

    def __init__(self, port=0):
        self.behave, self.log = None, []
        self.bodies, self.headers, self.tries = [], [], Counter()
        self.active = self.most_active = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        async def start():
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self.handle)
            self.routes(app)
            self.runner = web.AppRunner(app, access_log=None)
            await self.runner.setup()
            site = web.TCPSite(self.runner, "127.0.0.1", port, reuse_address=True)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]
            started.set()

        def serve():
            asyncio.set_event_loop(self.loop)
            self.loop.create_task(start())
            self.loop.run_forever()

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        assert started.wait(5)

    def routes(self, app):
        """Further routes of a kind of server."""

    async def handle(self, request):
        body = await request.json()
        content = body["messages"][-1]["content"]
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.tries[content] += 1
        row = [content, time.monotonic(), None]
        self.log.append(row)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            reply = await self.behave(body, self.tries[content])
            row[2] = time.monotonic()
        finally:
            self.active -= 1
        if reply is None:
            request.transport.abort()
            return web.Response()
        return web.json_response(reply) if isinstance(reply, dict) else reply

    def close(self):
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"
