"""The MCP servers of a definition that a runner refuses. Purely computational."""

from collections.abc import Mapping, Sequence

from crewrun_api.reasons import Reason
from crewrun_runner.refusal import Refusal


def check_servers(mcps: object, path: str, allow_commands: bool) -> None:
    """CrewAI takes a server as an https address, as an object with `url`, or as an object with a command."""
    for index, server in enumerate(mcps if isinstance(mcps, Sequence) and not isinstance(mcps, str) else ()):
        where = f"{path}[{index}]"
        if isinstance(server, str) and not server.startswith("https://"):
            text = f"{where}: {server} needs CrewAI's own platform; give the server's address as {{url: ...}}"
            raise Refusal(Reason.INVALID_CREW, text)
        if isinstance(server, Mapping) and "command" in server and not allow_commands:
            text = (
                f"{where}.command: runs a program, and a definition is data alone unless the CrewProfile says "
                "allowPython: run the server elsewhere and give its address as url, or load it in the code of an image "
                "of your own"
            )
            raise Refusal(Reason.INVALID_CREW, text)
