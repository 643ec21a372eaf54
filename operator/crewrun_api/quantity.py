"""Amounts of memory, disk and CPU as Kubernetes writes them."""

from decimal import Decimal, InvalidOperation

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
_LETTERS = "".join(sorted({character for unit in _UNITS for character in unit}))


def in_bytes(quantity: str) -> int:
    """Raises InvalidOperation for what is no amount of bytes."""
    number = quantity.rstrip(_LETTERS)
    unit = quantity[len(number) :]
    amount = Decimal(number)
    if unit not in _UNITS or not amount.is_finite():
        raise InvalidOperation(f"{quantity!r} is no amount of bytes")
    return int(amount * _UNITS[unit])


def in_cores(quantity: str) -> float:
    """Raises InvalidOperation for what is no amount of CPU."""
    number = quantity.removesuffix("m")
    amount = Decimal(number)
    if not amount.is_finite():
        raise InvalidOperation(f"{quantity!r} is no amount of CPU")
    return float(amount if number == quantity else amount / 1000)
