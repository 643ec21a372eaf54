"""More memory for the attempt after one that was OOMKilled. Purely computational."""

from decimal import Decimal, InvalidOperation

from crewrun_api.settings import MemoryGrowth

_UNITS = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
    "Ti": 1024**4,
}


def grown(limit: str, growth: MemoryGrowth, kills: int) -> str:
    """The limit after so many OOM kills: multiplied for each, at most `maxMemory`, never less than it was.

    A quantity that cannot be read stays as it is: the API server says what is wrong with it.
    """
    try:
        now, most = _bytes(limit), _bytes(growth.max_memory)
    except InvalidOperation:
        return limit
    wanted = int(now * Decimal(growth.memory_factor) ** kills)
    return limit if kills == 0 or wanted <= now or most <= now else str(min(wanted, most))


def _bytes(quantity: str) -> int:
    number = quantity.rstrip("".join({character for unit in _UNITS for character in unit}))
    unit = quantity[len(number) :]
    if unit not in _UNITS:
        raise InvalidOperation(f"{quantity!r} has no unit of memory")
    return int(Decimal(number) * _UNITS[unit])
