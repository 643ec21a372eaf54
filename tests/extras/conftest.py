"""Fixtures of the tests that need an extra of the runner image: `make extras-test` makes their environments."""

from tests.runner.conftest import llm as llm
