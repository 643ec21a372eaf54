"""The controller of CrewRun: watches runs, decides purely, applies in one place."""
