"""A tool of one's own."""

from crewai.tools import BaseTool


class WordCount(BaseTool):
    name: str = "count_words"
    description: str = "Counts the words of a text."

    def _run(self, text: str) -> str:
        return f"{len(text.split())} words"
