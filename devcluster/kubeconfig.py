"""Kubeconfig documents. Pure: no files."""

from __future__ import annotations

import base64
from typing import Any

from devcluster.pki import Pair


def kubeconfig(cluster: str, server: str, ca: bytes, client: Pair) -> dict[str, Any]:
    """A kubeconfig with everything embedded, so that the file can be copied anywhere."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": text(ca)}}],
        "users": [
            {
                "name": cluster,
                "user": {"client-certificate-data": text(client.cert), "client-key-data": text(client.key)},
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
    }
