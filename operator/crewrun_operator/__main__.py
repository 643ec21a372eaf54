"""`python -m crewrun_operator`: settings come from the environment, see `settings.py`."""

import sys

import uvloop
from pydantic import ValidationError

from crewrun_operator.main import run, set_up_logging
from crewrun_operator.settings import OperatorSettings

#: The API server takes objects of 10,000 levels, and a watch that cannot decode one ends the operator for
#: everybody. Such a run is refused (see validate.py), not fallen over.
_RECURSION_LIMIT = 25_000


def main() -> int:
    sys.setrecursionlimit(_RECURSION_LIMIT)
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for item in error.errors():
            name = "CREWRUN_" + ".".join(map(str, item["loc"])).upper()
            print(f"{name}: {item['msg']}", file=sys.stderr)
        return 2
    set_up_logging(settings.log_level)
    uvloop.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
