"""A docker that runs nothing: it notes what it is asked, and answers as kind expects until the node would start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STOP = "there is no Docker on this machine"
_SCRIPT = f"""#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$*" in
  -v) echo "Docker version 28.2.2" ;;
  "info --format {{{{.ServerVersion}}}}") echo 28.2.2 ;;
  info*) echo '{{"CgroupDriver": "cgroupfs", "CgroupVersion": "2"}}' ;;
  run*) touch "$here/node" ;;
  rm*) rm "$here/node" ;;
  ps*) if [ -e "$here/node" ]; then echo NODE; fi ;;
  logs*) echo "Reached target Multi-User System." ;;
  *"kind.role"*) echo control-plane ;;
  *NetworkSettings.Networks*) echo 172.18.0.2, ;;
  *"cat /kind/version") echo v1.34.0 ;;
  *"cp /dev/stdin /kind/kubeadm.conf") cat > "$here/kubeadm.conf" ;;
  *"containerd config dump")
    printf '%s\\n' 'version = 3' '[plugins."io.containerd.cri.v1.images"]' 'snapshotter = "overlayfs"' ;;
  *"images import"*) sha256sum | cut -c1-64 > "$here/imported" ;;
  *"kubeadm init"*) echo "{STOP}" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True)
class FakeDocker:
    """What was asked and written so far."""

    folder: Path

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def start_node(self) -> None:
        (self.folder / "node").touch()


def fake_docker(folder: Path, cluster: str) -> FakeDocker:
    """The program in a folder of its own, to be put first on PATH."""
    folder.mkdir()
    program = folder / "docker"
    program.write_text(_SCRIPT.replace("NODE", f"{cluster}-control-plane"))
    program.chmod(0o755)
    return FakeDocker(folder)
