"""The network of a node-size cluster: a bridge, and address translation for the pods on it. Needs root."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

from devcluster.errors import DevClusterError
from devcluster.progress import find_program, run_quick

NETWORKS = ipaddress.IPv4Network("10.200.0.0/16")


def free_subnet(taken: Iterable[str]) -> str:
    """The first /24 of ours that overlaps no network the machine already knows. Pure."""
    known = [ipaddress.IPv4Interface(entry).network for entry in taken]
    for subnet in NETWORKS.subnets(new_prefix=24):
        if not any(subnet.overlaps(network) for network in known):
            return str(subnet)
    raise DevClusterError(
        f"every /24 of {NETWORKS} is in use on this machine.", hint="remove bridges that nobody needs: ip -4 addr"
    )


def gateway(subnet: str) -> str:
    """The node's own address: the first of the subnet. Pure."""
    return str(next(ipaddress.IPv4Network(subnet).hosts()))


def used_networks() -> list[str]:
    """Addresses and routes of this machine, but for the default route."""
    addresses = json.loads(run_quick(["ip", "-j", "-4", "addr"], what="listing addresses").stdout or "[]")
    routes = json.loads(run_quick(["ip", "-j", "-4", "route"], what="listing routes").stdout or "[]")
    found = [
        f"{entry['local']}/{entry['prefixlen']}"
        for link in addresses
        for entry in link.get("addr_info", [])
        if "local" in entry
    ]
    return found + [route["dst"] for route in routes if route.get("dst", "default") != "default"]


def add_bridge(name: str, subnet: str) -> None:
    prefix = ipaddress.IPv4Network(subnet).prefixlen
    for arguments in (
        ["link", "add", name, "type", "bridge"],
        ["addr", "add", f"{gateway(subnet)}/{prefix}", "dev", name],
        ["link", "set", name, "up"],
    ):
        run_quick(["ip", *arguments], what=f"making the bridge {name}")


def remove_bridge(name: str) -> None:
    """The bridge and the pods' ends on it, which their network namespaces may still hold.

    Asked of `ip` and not of /sys: in a network namespace that shows another one's links.
    """
    if not find_program("ip"):
        return
    if run_quick(["ip", "link", "show", name], what=f"looking for {name}", check=False).returncode != 0:
        return
    ports = run_quick(["ip", "-j", "link", "show", "master", name], what=f"listing links on {name}").stdout
    for port in json.loads(ports or "[]"):
        if link := port.get("ifname"):
            run_quick(["ip", "link", "del", link], what=f"removing {link}", check=False)
    run_quick(["ip", "link", "del", name], what=f"removing the bridge {name}")


def nat_rules(table: str, subnet: str) -> str:
    """Pods reach the outside under the machine's address. Pure."""
    return (
        f"table ip {table} {{\n  chain postrouting {{\n"
        f"    type nat hook postrouting priority srcnat; policy accept;\n"
        f"    ip saddr {subnet} ip daddr != {subnet} masquerade\n  }}\n}}\n"
    )


def add_nat(table: str, subnet: str) -> None:
    run_quick(["nft", "-f", "-"], what="adding the pods' address translation", stdin=nat_rules(table, subnet))


def tables() -> set[tuple[str, str]]:
    """Family and name of every nftables table."""
    if not find_program("nft"):
        return set()
    listed = run_quick(["nft", "list", "tables"], what="listing nftables", check=False).stdout
    return {(words[1], words[2]) for line in listed.splitlines() if len(words := line.split()) == 3}


def remove_tables(names: Iterable[str]) -> None:
    wanted = set(names)
    for family, name in sorted(tables()):
        if name in wanted:
            run_quick(["nft", "delete", "table", family, name], what=f"removing nftables table {name}")
