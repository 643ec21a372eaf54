"""More memory for the attempt after one that was OOMKilled. Purely computational."""

from decimal import Decimal, InvalidOperation

from crewrun_api.quantity import in_bytes
from crewrun_api.settings import MemoryGrowth


def grown(limit: str, growth: MemoryGrowth, kills: int) -> str:
    """The limit after so many OOM kills: multiplied for each, at most `maxMemory`, never less than it was.

    A quantity that cannot be read stays as it is: the API server says what is wrong with it.
    """
    try:
        now, most = in_bytes(limit), in_bytes(growth.max_memory)
    except InvalidOperation:
        return limit
    wanted = int(now * Decimal(growth.memory_factor) ** kills)
    return limit if kills == 0 or wanted <= now or most <= now else str(min(wanted, most))
