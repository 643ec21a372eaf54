"""Probes and metrics over HTTP. The probes answer from real progress, not from "the port is open"."""

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from crewrun_operator import clock
from crewrun_operator.controller import Controller
from crewrun_operator.metrics import Metrics
from crewrun_operator.settings import OperatorSettings
from crewrun_operator.store import Store

#: A key that no worker takes for so long means that the workers are stuck.
_LONGEST_WAIT_SECONDS = 120.0


def application(settings: OperatorSettings, controller: Controller, store: Store, metrics: Metrics) -> web.Application:
    """`/healthz`, `/readyz` and `/metrics`."""

    async def healthz(_: web.Request) -> web.Response:
        limit = 3 * settings.resync_seconds + 60
        if (age := controller.oldest_resync_seconds()) > limit:
            return web.Response(status=503, text=f"nothing was listed for {age:.0f} s\n")
        if (wait := controller.queue.oldest_wait()) > _LONGEST_WAIT_SECONDS:
            return web.Response(status=503, text=f"a run has waited for a worker for {wait:.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if not controller.synced:
            return web.Response(status=503, text="the first list is not complete\n")
        return web.Response(text="ok\n")

    async def serve_metrics(request: web.Request) -> web.Response:
        metrics.look(store, clock.now())
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))  # only OpenMetrics has exemplars
        return web.Response(body=encode(metrics.registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", serve_metrics)])
    return app
