"""Probes and metrics over HTTP. The probes answer from real progress, not from "the port is open"."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

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

    async def serve_metrics(_: web.Request) -> web.Response:
        metrics.look(store)
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", serve_metrics)])
    return app
