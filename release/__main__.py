"""The steps of a release, one command each: `python -m release --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from devcluster.base_image import DOCKER_BASE
from devcluster.errors import DevClusterError
from devcluster.tools import ensure_tool
from release import chart, identity, images, publish, sbom
from release.products import PRODUCTS, REGISTRY, own_platform, python_of


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in {
        "version": "print the tag of this commit",
        "check": "fail unless this commit, unchanged, is tagged as the release of its version",
        "images": "build images into archives below build/release",
        "sbom": "write bills of materials below build/sbom",
        "chart": "package the chart below build/charts",
        "push": "push images for every platform, and the chart; needs Docker with buildx, and a login",
        "sign": "sign what was pushed, and attest its bills of materials; needs cosign",
    }.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in ("images", "push", "sbom"):
            command.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(PRODUCTS)} (default: all)")
        if name in ("images", "push"):
            platforms = own_platform() if name == "images" else "linux/amd64,linux/arm64"
            command.add_argument("--platforms", default=platforms, help=f"separated by commas (default: {platforms})")
            command.add_argument("--registry", default=REGISTRY, help=f"default: {REGISTRY}")
    return top


def run(options: argparse.Namespace) -> None:
    this = identity.read()
    if options.command == "version":
        print(this.tag)
    elif options.command == "check":
        identity.check(this)
    elif options.command == "chart":
        print(chart.package(this))
    elif options.command == "sign":
        for reference in publish.PUSHED.read_text().split():
            publish.sign(reference, publish.bill_of(reference, this.tag))
    else:
        if unknown := set(options.images) - set(PRODUCTS):
            raise DevClusterError(f"no image is named {', '.join(sorted(unknown))}.", hint=", ".join(PRODUCTS))
        products = [PRODUCTS[name] for name in options.images or PRODUCTS]
        base = os.environ.get("BASE") or DOCKER_BASE
        if options.command == "sbom":
            for product in products:
                sbom.write(product, this, python_of(base))
        elif options.command == "images":
            images.build_archives(products, options.platforms.split(","), this, options.registry)
        else:
            base = publish.pinned(base)
            platforms, registry = options.platforms.split(","), options.registry
            pushed = [publish.push_image(product, platforms, base, registry, this) for product in products]
            pushed.append(publish.push_chart(ensure_tool("helm"), chart.package(this), registry))
            publish.PUSHED.write_text("".join(f"{reference}\n" for reference in pushed))


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        run(parser().parse_args(arguments))
    except DevClusterError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
