"""Wiring: settings, API, store, feed, controller and probes in one event loop.

Crash-only: when any part ends, the process ends, and a fresh one lists everything again.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import kopf
import structlog
from aiohttp import web
from kubernetes.aio import client, config
from prometheus_client import disable_created_metrics

from crewrun_operator import feed, reports, watches
from crewrun_operator.api import Api
from crewrun_operator.apply import Where
from crewrun_operator.attachments import Reporting
from crewrun_operator.controller import Controller
from crewrun_operator.http import application
from crewrun_operator.metrics import Metrics
from crewrun_operator.settings import OperatorSettings
from crewrun_operator.store import Store
from crewrun_operator.tokens import TokenChecker

log = structlog.get_logger(__name__)

_SIGNAL = "signal"
#: Python looks for garbage after so many new objects. The default of 700 took a tenth of the CPU: of what a decision
#: makes hardly anything lives in circles.
_GARBAGE_AFTER = 10_000


async def run(settings: OperatorSettings) -> None:
    """Run the operator until a signal comes or a part of it fails."""
    gc.disable()  # what the first list makes stays: to look through it for garbage takes as long as the list
    disable_created_metrics()  # type: ignore[no-untyped-call]  # one series more for each that there is
    metrics = Metrics(settings.version)
    api = Api(await _configuration(), metrics)
    store = Store(settings.defaults, settings.bounds, metrics.changed)
    controller = Controller(settings, api, store, metrics, reporting(settings))
    http = web.AppRunner(application(settings, controller, store, metrics), access_log=None)
    await http.setup()
    site = web.TCPSite(http, settings.http_host, settings.http_port)
    await site.start()
    address, port = http.addresses[0][:2]
    log.info("started", probes=f"http://{address}:{port}", workers=settings.workers)
    reports_runner, certificate = await _take_reports(settings, api, controller, metrics)
    watching, take = asyncio.Event(), feed.takers(store, controller.seen)
    parts = {
        *certificate,
        asyncio.create_task(_watch(settings, take, watching), name="watches of definitions"),
        asyncio.create_task(_follow(api, controller, take), name="watches of runs"),
        asyncio.create_task(controller.run(), name="controller"),
        asyncio.create_task(_signal(watching), name=_SIGNAL),
    }
    done, running = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    for part in running:
        part.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await http.cleanup()
    if reports_runner:
        await reports_runner.cleanup()
    await api.close()
    for part in done:
        if part.get_name() != _SIGNAL:
            raise RuntimeError(f"the {part.get_name()} ended; starting again is safe") from part.exception()


def reporting(settings: OperatorSettings) -> Where:
    """Where runners report, with the authorities as they are now."""

    def where() -> Reporting | None:
        url = settings.reports_url
        return Reporting(url, reports.authorities(settings.tls_dir)) if url else None

    return where


async def _take_reports(
    settings: OperatorSettings, api: Api, controller: Controller, metrics: Metrics
) -> tuple[web.AppRunner | None, list[asyncio.Task[None]]]:
    if settings.reports_url is None:
        log.warning("runners do not report: CREWRUN_REPORTS_URL is not set; every attempt starts from scratch")
        return None, []
    context = reports.tls(settings.tls_dir)
    app = reports.application(TokenChecker(api), controller.inbox, metrics.reports)
    runner = await reports.serve(app, settings.reports_host, settings.reports_port, context)
    log.info("takes reports", url=settings.reports_url, port=runner.addresses[0][1])
    certificate = asyncio.create_task(reports.keep_certificate(context, settings.tls_dir), name="certificate")
    return runner, [certificate]


async def _signal(watching: asyncio.Event) -> None:
    """Wait for SIGTERM or SIGINT. kopf sets handlers of its own that end slowly; ours replace them."""
    await watching.wait()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _follow(api: Api, controller: Controller, take: Mapping[str, feed.Take]) -> None:
    listed = await controller.first_list()
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER)
    gc.enable()
    async with asyncio.TaskGroup() as group:
        for collection, version in [*listed.items()]:
            if collection.plural in feed.BULK:
                its = take[collection.plural]
                group.create_task(watches.follow(api, collection, version, its, controller.list_again))


async def _watch(settings: OperatorSettings, take: Mapping[str, feed.Take], ready: asyncio.Event) -> None:
    registry = kopf.OperatorRegistry()
    feed.register(registry, take)
    kopf_settings = kopf.OperatorSettings()
    feed.configure(kopf_settings)
    await kopf.operator(
        registry=registry,
        settings=kopf_settings,
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        ready_flag=ready,
    )


async def _configuration() -> client.Configuration:
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    return configuration


def set_up_logging(level: str) -> None:
    """JSON lines on standard output, kopf's own messages from WARNING on included."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*processors, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer(), foreign_pre_chain=processors)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
