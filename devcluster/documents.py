"""The configuration files of the servers. Pure: a plan in, documents out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from devcluster.components import LOCAL, Plan

CLUSTER_DOMAIN = "cluster.local"
PAUSE_IMAGE = "localhost/crewrun-pause:1"
CNI_BIN = "/usr/lib/cni"

Document = dict[str, Any]


def scheduler(plan: Plan) -> Document:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        # As for the controller manager: a benchmark must not measure a client's own throttle.
        "clientConnection": {"kubeconfig": plan.kubeconfig("scheduler"), "qps": 500, "burst": 1000},
    }


def kube_proxy(plan: Plan) -> Document:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": plan.kubeconfig("kube-proxy")},
        "clusterCIDR": plan.subnet,
        "healthzBindAddress": f"{LOCAL}:{plan.ports['proxy-healthz']}",
        "metricsBindAddress": f"{LOCAL}:{plan.ports['proxy-metrics']}",
        "nodePortAddresses": [plan.subnet],
        # Two pods on one bridge: the answer would go straight back, past the address translation.
        # With the bridge as the source of every service connection it comes back through it.
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms"},
        # The machine's connection table is not ours to resize.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def kubelet(plan: Plan) -> Document:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.address,
        "port": 10250,
        "readOnlyPort": 0,
        "healthzBindAddress": LOCAL,
        "healthzPort": plan.ports["kubelet-healthz"],
        "tlsCertFile": plan.cert("kubelet"),
        "tlsPrivateKeyFile": plan.key("kubelet"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": plan.cert("ca")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [plan.address],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": plan.config("resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{plan.layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        # A tree of our own: `down` removes it, and another kubelet's is not touched.
        "cgroupRoot": f"/{plan.layout.bridge}",
        "failSwapOn": False,
        "failCgroupV1": False,
        "podLogsDir": str(plan.layout.pod_logs),
        "volumePluginDir": str(plan.layout.kubelet / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        # There is no registry to pull a collected image from again, and a full disk is the
        # person's own business: neither may evict pods or images here.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "imagefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.inodesFree": "0%",
        },
    }


def containerd(plan: Plan) -> str:
    layout = plan.layout
    return f'''\
version = 2
root = "{layout.containerd}"
state = "{layout.run}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{layout.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE, as in a sandbox, runc may not lower a score and fails.
  restrict_oom_score_adj = true
  # Under our own folder `down` finds them; the default folder is shared with other runtimes.
  netns_mounts_under_state_dir = true
  stream_server_address = "{LOCAL}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{layout.run}/runc"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN}"
    conf_dir = "{layout.config}/cni"
'''


def cni(plan: Plan) -> str:
    """Pods sit on the bridge that also carries the node's address, which is their gateway."""
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": plan.layout.bridge,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": plan.layout.bridge,
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(plan.layout.state / "cni"),
                        "ranges": [[{"subnet": plan.subnet, "gateway": plan.address}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        },
        indent=1,
    )


def corefile(plan: Plan, *, upstream: bool) -> str:
    """`upstream` is false on a machine without name servers: CoreDNS refuses an empty list."""
    forward = f"    forward . {plan.config('resolv.conf')}\n" if upstream else ""
    return f"""\
.:53 {{
    bind {plan.address}
    errors
    health {LOCAL}:{plan.ports["coredns-health"]}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {plan.kubeconfig("coredns")}
        fallthrough in-addr.arpa ip6.arpa
    }}
{forward}    cache 10
}}
"""


def resolv_conf(host: str) -> str:
    """The host's name servers without its search domains: those would slow every lookup in a pod."""
    return "".join(f"{line}\n" for line in host.splitlines() if line.split()[:1] == ["nameserver"])


def coredns_rbac() -> list[tuple[str, Document]]:
    """API path and document of what CoreDNS may read."""
    group = "/apis/rbac.authorization.k8s.io/v1"
    meta = {"name": "crewrun-devcluster-coredns"}
    role: Document = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": meta,
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    binding: Document = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": meta["name"]},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    }
    return [(f"{group}/clusterroles/{meta['name']}", role), (f"{group}/clusterrolebindings/{meta['name']}", binding)]


def fake_node(number: int) -> Document:
    """A node that kwok keeps alive. Room for everything: what is measured is never the scheduler's fit."""
    name = f"kwok-{number}"
    room: Mapping[str, str] = {"cpu": "1000", "memory": "1Ti", "pods": "10000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"capacity": room, "allocatable": room},
    }
