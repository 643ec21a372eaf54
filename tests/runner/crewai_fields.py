"""What CrewAI's definitions may hold, and which key each provider takes, as JSON. It runs in the runner's environment.

The argument is a JSON list of models. OPENAI_API_KEY is set to `openai`, and no other key is.
"""

import json
import os
import sys

from crewrun_runner import absent, lazy

lazy.install()
with absent.install().stand_ins():
    from crewai import LLM, Agent, Crew, Task
    from crewai.llms.providers.openai.completion import OpenAICompletion
    from crewai.project import json_loader


def key_of(model: str) -> str:
    os.environ["OPENAI_API_KEY"] = "openai"
    try:
        return str(getattr(LLM(model=model), "api_key", None))
    except Exception as error:
        return type(error).__name__


fields = {
    "agent": sorted({*Agent.model_fields} - json_loader._AGENT_RUNTIME_FIELDS),
    "task": sorted({*Task.model_fields} - json_loader._TASK_RUNTIME_FIELDS),
    "crew": sorted({*Crew.model_fields} - json_loader._CREW_RUNTIME_FIELDS),
    "llm": sorted(OpenAICompletion.model_fields),
}
json.dump({"fields": fields, "keys": {model: key_of(model) for model in json.loads(sys.argv[1])}}, sys.stdout)
