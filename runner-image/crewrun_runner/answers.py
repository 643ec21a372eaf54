"""From what a crew or a Flow returns to an answer. Purely computational, and by shape."""

from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from crewrun_api.reasons import OutputFormat
from crewrun_runner.record import Answer


def answer(output: Any) -> Answer:
    """CrewAI's CrewOutput, or whatever a Flow or a callback made of it."""
    if getattr(output, "pydantic", None) is not None:
        return Answer(output.pydantic.model_dump_json(), OutputFormat.JSON)
    if getattr(output, "json_dict", None) is not None:
        return Answer(output.json, OutputFormat.JSON)
    if hasattr(output, "raw"):
        return Answer(str(output.raw))
    if output is None or isinstance(output, str):
        return Answer(output or "")
    if isinstance(output, BaseModel):
        return Answer(output.model_dump_json(), OutputFormat.JSON)
    # A Flow may return anything: what JSON has no form for becomes a text.
    return Answer(to_json(output, fallback=str, inf_nan_mode="null").decode(), OutputFormat.JSON)
