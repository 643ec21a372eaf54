"""The crew of the runner's benchmark, written as CrewAI's own documents do it. It runs with crewai as it comes."""

from crewai import Agent, Crew, Task

writer = Agent(role="Writer", goal="Explain {topic}", backstory="Concise.", llm="openai/gpt-4o")
report = Task(description="Do report on {topic}.", expected_output="Text.", agent=writer)
Crew(agents=[writer], tasks=[report]).kickoff(inputs={"topic": "AI"})
