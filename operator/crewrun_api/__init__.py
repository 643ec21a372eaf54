"""The contract of CrewRun: kinds, reasons, names and records.

Everything that two parts must agree on lives here and nowhere else. The package depends on pydantic
alone and does no I/O, so the operator, the runner and people's own tools can all import it.
"""
