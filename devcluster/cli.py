"""The command line: reads arguments, calls a provider, prints. Output for scripts goes to stdout."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devcluster.base_image import base_image
from devcluster.current import Current
from devcluster.errors import DevClusterError
from devcluster.images import Image, build_image
from devcluster.kind import Kind
from devcluster.native import Native
from devcluster.paths import Layout, default_state_dir
from devcluster.progress import say
from devcluster.provider import SIZES, Provider, Size, UpOptions, choose
from devcluster.record import Record
from devcluster.tools import TOOLS, ensure_tool


def name(text: str) -> str:
    """A cluster's name becomes part of a node's name, so it follows the same rule."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: use at most 50 lower-case letters, digits and dashes")
    return text


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def key_value(text: str) -> str:
    if not text.partition("=")[0] or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form K=V")
    return text.removeprefix("--")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m devcluster", description=__doc__.splitlines()[0] if __doc__ else "")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def cluster_command(verb: str, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(verb, help=summary, description=summary)
        command.add_argument("--name", type=name, default="crewrun", help="which cluster (default: crewrun)")
        command.add_argument(
            "--state-dir",
            type=Path,
            metavar="DIR",
            help="a folder of its own for this cluster (default: ~/.local/state/crewrun/NAME)",
        )
        return command

    up = cluster_command("up", "make the cluster, or find it ready")
    up.add_argument(
        "--size",
        choices=SIZES,
        default="node",
        help="node: everything, runs containers; control-plane: API server and controllers only",
    )
    up.add_argument(
        "--apiserver-arg",
        action="append",
        default=[],
        metavar="K=V",
        dest="apiserver_args",
        type=key_value,
        help="one more argument for the API server, as --K=V; may be repeated",
    )
    up.add_argument(
        "--kwok-config", type=Path, metavar="FILE", help="start kwok with these stages (size control-plane)"
    )
    up.add_argument(
        "--kwok-nodes", type=positive, default=1, metavar="N", help="how many fake nodes for kwok (default: 1)"
    )
    cluster_command("down", "remove the cluster and everything that up made")
    cluster_command("status", "print each component; exit code 1 when the cluster is not up")
    cluster_command("kubeconfig", "print the path of the cluster's kubeconfig")
    cluster_command("audit-log", "print the path of the API server's audit log")
    load = cluster_command("load", "make images from archives runnable in the cluster")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE_TAR")
    tool = commands.add_parser("tool", help="print the path of a pinned tool, building it if missing")
    tool.add_argument("tool", metavar="NAME", choices=sorted([*TOOLS, "kubectl"]))
    build = commands.add_parser("build-image", help="build an image and write its archive, unless unchanged")
    build.add_argument("--file", type=Path, required=True, metavar="DOCKERFILE")
    build.add_argument("--context", type=Path, required=True, metavar="DIR")
    build.add_argument("--tag", required=True)
    build.add_argument("--output", type=Path, required=True, metavar="TAR")
    build.add_argument("--build-arg", action="append", default=[], metavar="K=V", dest="build_args", type=key_value)
    commands.add_parser("base-image", help="print the tag of the Python base image, making it if missing")
    return top


def candidates(layout: Layout, size: Size = "node") -> list[Provider]:
    """In the order in which they are tried. A control plane alone is native's own thing: it starts
    in seconds and several fit on a machine, so Docker is only asked where native cannot.
    """
    current, kind, native = Current(layout), Kind(layout), Native(layout)
    return [current, native, kind] if size == "control-plane" else [current, kind, native]


def made_by(layout: Layout) -> Provider | None:
    """The provider that made this cluster, whatever the environment says now."""
    record = Record.load(layout)
    if record is None:
        return None
    return next((provider for provider in candidates(layout) if provider.name == record.provider), None)


def provider_for_up(layout: Layout, size: Size, env: Mapping[str, str]) -> Provider:
    """Who makes the cluster, or made it: a name never changes hands silently."""
    made = made_by(layout)
    chosen = choose(candidates(layout, size), size, env)
    if made is None or made.name == chosen.name:
        return chosen
    if env.get("CLUSTER") or made.why_not(size):
        raise DevClusterError(
            f"cluster {layout.name!r} was made by {made.name}, this would use {chosen.name}.",
            hint=f"python -m devcluster down --name {layout.name} first, or choose another --name",
        )
    return made


def run(arguments: argparse.Namespace) -> int:
    if arguments.command == "tool":
        print(ensure_tool(arguments.tool))
        return 0
    if arguments.command == "base-image":
        print(base_image())
        return 0
    if arguments.command == "build-image":
        built = build_image(
            Image(
                arguments.file.absolute(),
                arguments.context.absolute(),
                arguments.tag,
                arguments.output.absolute(),
                tuple(arguments.build_args),
            )
        )
        say(f"{arguments.tag}: {'built' if built else 'unchanged, not built again'}; {arguments.output}")
        return 0
    state = (arguments.state_dir or default_state_dir(arguments.name)).expanduser().absolute()
    layout = Layout(arguments.name, state)
    if arguments.command == "up":
        return up(layout, arguments)
    provider = made_by(layout) or Native(layout)  # with no record, native still finds what bears the name
    if arguments.command == "down":
        provider.down()
        say(f"cluster {layout.name!r} is down")
    elif arguments.command == "kubeconfig":
        print(provider.kubeconfig())
    elif arguments.command == "audit-log":
        print(provider.audit_log())
    elif arguments.command == "load":
        provider.load(arguments.archives)
    elif arguments.command == "status":
        return print_status(layout, provider)
    return 0


def up(layout: Layout, arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    options = UpOptions(
        arguments.size,
        tuple(arguments.apiserver_args),
        arguments.kwok_config,
        arguments.kwok_nodes if arguments.kwok_config else 0,
    )
    provider = provider_for_up(layout, options.size, os.environ)
    provider.up(options)
    say(
        f"cluster {layout.name!r} ({provider.name}, {options.size}) is ready after {time.monotonic() - started:.1f} s; "
        f"export KUBECONFIG={provider.kubeconfig()}"
    )
    return 0


def print_status(layout: Layout, provider: Provider) -> int:
    status = provider.status()
    print(f"{layout.name} ({status.provider}): {'up' if status.up else 'not up'}")
    for component in status.components:
        print(f"  {component.name:<24} {'healthy' if component.healthy else 'NOT HEALTHY':<12} {component.detail}")
    return 0 if status.up else 1


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return run(parser().parse_args(arguments))
    except DevClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("devcluster: stopped", file=sys.stderr)
        return 130
