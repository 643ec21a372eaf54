"""A researcher and a writer, as CrewAI's own projects are made: `my_project.crew:ResearchCrew`."""

from crewai import Agent, Crew, Process, Task
from crewai.project import CrewBase, agent, crew, task

from my_project.tools import WordCount


@CrewBase
class ResearchCrew:
    """What the agents and tasks say stands in config/; the model, its address and its key come from the profile."""

    agents_config = "config/agents.yaml"
    tasks_config = "config/tasks.yaml"

    @agent
    def researcher(self) -> Agent:
        return Agent(config=self.agents_config["researcher"])

    @agent
    def writer(self) -> Agent:
        return Agent(config=self.agents_config["writer"], tools=[WordCount()])

    @task
    def facts(self) -> Task:
        return Task(config=self.tasks_config["facts"])

    @task
    def report(self) -> Task:
        return Task(config=self.tasks_config["report"])

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.sequential)
