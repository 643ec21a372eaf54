"""A Flow that lets the crew work until its report is short enough: `my_project.flow:ReportFlow`."""

from crewai.flow import Flow, listen, router, start
from pydantic import BaseModel

from my_project.crew import ResearchCrew

MOST_WORDS = 500
MOST_TRIES = 2


class State(BaseModel):
    """`topic` comes from the run's inputs."""

    topic: str = ""
    tries: int = 0
    report: str = ""


class ReportFlow(Flow[State]):
    @start("again")
    def write(self) -> None:
        self.state.tries += 1
        self.state.report = ResearchCrew().crew().kickoff(inputs={"topic": self.state.topic}).raw

    @router(write)
    def judge(self) -> str:
        too_long = len(self.state.report.split()) > MOST_WORDS
        return "again" if too_long and self.state.tries < MOST_TRIES else "done"

    @listen("done")
    def result(self) -> dict[str, object]:
        return {"report": self.state.report, "tries": self.state.tries}
