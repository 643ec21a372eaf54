"""The runner with no cluster: a definition, an entrypoint or a manifest from the command line.

    python -m crewrun_runner --definition crew.yaml --input topic=AI

Everything is as in a Pod, but that the result goes to stdout and all else to stderr.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import ValidationError

from crewrun_api import names
from crewrun_api.allowance import Allowance
from crewrun_api.kinds import CrewSpec, ProfileSpec
from crewrun_api.merge import merge
from crewrun_api.model import Model
from crewrun_api.outcome import OutcomeRecord
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_api.resolved import ResolvedRun
from crewrun_runner.image import APP_DIR, ENV_APP_DIR
from crewrun_runner.payload import ENV_TERMINATION_LOG, Execution, Payload
from crewrun_runner.refusal import Refusal

_M = TypeVar("_M", bound=Model)
_EPILOG = """\
The model comes from llm.model of the profile or Crew, or from the variable MODEL; keys come from the variables that
the model's provider reads, such as OPENAI_API_KEY. The result goes to stdout, JSON log lines to stderr.

Exit codes: 0 succeeded, 10 invalid crew or inputs, 20 LLM (may work later), 21 LLM (will not), 30 task failed,
40 budget exceeded, 50 stopped, 70 a fault of the runner.
"""


class _Parser(argparse.ArgumentParser):
    """With the exit code of the table."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.INVALID, f"{self.prog}: {message}; see --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m crewrun_runner",
        description="Run a CrewAI crew here, with no cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--definition", metavar="FILE", help="CrewAI's crew definition, or a manifest of kind Crew, as YAML or JSON"
    )
    source.add_argument(
        "--entrypoint",
        metavar="MODULE:NAME",
        help="a Crew, a function that returns one, a @CrewBase class or a Flow, of a module that Python finds",
    )
    parser.add_argument("--profile", metavar="FILE", help="a manifest of kind CrewProfile, or its spec alone")
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an input, always a text; may be given again, and is stronger than --inputs",
    )
    parser.add_argument("--inputs", metavar="FILE", help="inputs of any type, as YAML or JSON")
    return parser


def begin(arguments: Sequence[str], environ: MutableMapping[str, str]) -> tuple[Execution, Payload]:
    """What a Pod would have been given. Raises Refusal; an argument that is none ends the process."""
    options = _parser().parse_args(arguments)
    crew, name = _crew(options)
    profile = _spec(_document(options.profile, "--profile"), "CrewProfile", "--profile") if options.profile else {}
    allowed = bool(_parsed(ProfileSpec, profile, f"--profile {options.profile}").allow_python)
    _parsed(CrewSpec, crew, f"--definition {options.definition}")
    resolved = {
        **merge(profile, crew),
        "crew": name,
        "definition": crew.get("definition"),
        "entrypoint": (crew.get("entrypoint") or {}).get("target"),
        "allowPython": allowed,
        "inputSchema": crew.get("inputSchema"),
    }
    spec = _parsed(ResolvedRun, resolved, "--profile and --definition together")
    inputs = {**_defaults(spec.input_schema), **_inputs(options)}
    _settle(spec, environ)
    return Execution("local", name, "local", 1, "local"), Payload(spec, inputs)


def shown(result: Callable[[str], None]) -> Callable[[OutcomeRecord], None]:
    """Shows the end to a person: the result where results go, a failure in plain words beside the log."""

    def show(record: OutcomeRecord) -> None:
        if record.output is not None:
            result(record.output.value)
        if record.outcome is not Outcome.SUCCEEDED:
            print(f"{record.reason}: {record.message}", file=sys.stderr)

    return show


def _crew(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The spec of a Crew, and its name."""
    if options.entrypoint:
        return {"entrypoint": {"target": options.entrypoint, "image": "this"}}, options.entrypoint
    document = _document(options.definition, "--definition")
    if "kind" not in document:
        return {"definition": document}, Path(options.definition).stem
    spec = _spec(document, "Crew", "--definition")
    if "configMap" in spec:
        text = "spec.configMap: a ConfigMap needs a cluster; write its files as spec.definition"
        raise _refusal(f"--definition {options.definition}", text)
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return spec, str(name or Path(options.definition).stem)


def _spec(document: dict[str, Any], kind: str, option: str) -> dict[str, Any]:
    """The spec of a manifest; a document without a kind is a spec itself."""
    if "kind" not in document:
        return document
    if document["kind"] != kind:
        raise _refusal(option, f"has kind {document['kind']}; it must be {kind}")
    if not isinstance(spec := document.get("spec"), dict):
        raise _refusal(option, f"a {kind} needs a spec")
    return spec


def _document(path: str, option: str) -> dict[str, Any]:
    where = f"{option} {path}"
    try:
        documents = [document for document in yaml.safe_load_all(Path(path).read_text()) if document is not None]
    except OSError as error:
        raise _refusal(where, f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise _refusal(where, f"is neither YAML nor JSON{place}: {getattr(error, 'problem', error)}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise _refusal(where, f"must hold one object; it holds {len(documents)} documents")
    return documents[0]


def _inputs(options: argparse.Namespace) -> dict[str, Any]:
    inputs = _document(options.inputs, "--inputs") if options.inputs else {}
    for given in options.input:
        name, equals, value = given.partition("=")
        if not (name and equals):
            # Its text may be a value that was meant to stay secret.
            raise _refusal("--input", "must be NAME=VALUE, such as --input topic=AI", Reason.INVALID_INPUTS)
        inputs[name] = value
    return inputs


def _defaults(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of an inputSchema, as the operator applies them."""
    properties = (schema or {}).get("properties")
    nodes = properties.items() if isinstance(properties, Mapping) else ()
    return {name: node["default"] for name, node in nodes if isinstance(node, Mapping) and "default" in node}


def _settle(spec: ResolvedRun, environ: MutableMapping[str, str]) -> None:
    """The variables of a Pod, as far as they can be had here: what the shell has set is stronger."""
    for variable in spec.env:
        if variable.value is not None:
            environ.setdefault(variable.name, variable.value)
    wanted = [secret.name for secret in spec.secrets if secret.name]
    wanted += [variable.name for variable in spec.env if variable.value_from]
    for name in wanted:
        if name not in environ:
            print(f"{name} is not set: in a cluster it comes from an object that is not here", file=sys.stderr)
    if not Path(APP_DIR).is_dir():
        environ.setdefault(ENV_APP_DIR, os.getcwd())  # noqa: PTH109
    environ[ENV_TERMINATION_LOG] = os.devnull
    for name in (names.ENV_REPORT_URL, names.ENV_CHECKPOINT_SHA256, names.ENV_ALLOWANCE):
        environ.pop(name, None)
    if spec.budget is not None:
        environ[names.ENV_ALLOWANCE] = Allowance(budget=spec.budget).model_dump_json(by_alias=True, exclude_none=True)


def _parsed(model: type[_M], document: dict[str, Any], where: str) -> _M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(["spec", *map(str, first["loc"])])
        raise _refusal(where, f"{path}: {first['msg']}") from error


def _refusal(where: str, text: str, reason: Reason = Reason.INVALID_CREW) -> Refusal:
    return Refusal(reason, f"{where}: {text}")
