"""How an operator is set up: environment variables `CREWRUN_...`, or arguments of `python -m crewrun_operator`."""

from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from crewrun_api.policy import Policy


class OperatorSettings(BaseSettings):
    """The weakest layer of every run, and how the operator itself works."""

    model_config = SettingsConfigDict(env_prefix="CREWRUN_", extra="ignore")

    runner_image: str = Field(description="Runner image of every run whose crew and profile name none.")
    runner_image_pull_policy: str = Field(default="IfNotPresent", description="Its pull policy.")
    namespaces: list[str] = Field(default_factory=list, description="Namespaces to watch. Empty: all.")
    policy: Policy = Field(default=Policy(), description="What runs may ask for, as JSON.")
    workers: int = Field(default=32, ge=1, le=256, description="Runs that are worked at the same time.")
    resync_seconds: float = Field(default=300, gt=0, description="How often everything is listed and decided again.")
    http_host: str = Field(default="0.0.0.0", description="Where probes and metrics are served.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="Their port.")
    reports_url: str | None = Field(
        default=None,
        description="Where Pods reach this operator, as https://crewrun.crewrun-system.svc:8443. Unset: runners do not "
        "report, and every attempt starts from scratch.",
    )
    reports_host: str = Field(default="0.0.0.0", description="Where reports are taken.")
    reports_port: int = Field(default=8443, ge=0, le=65535, description="Their port.")
    tls_dir: Path = Field(
        default=Path("/var/run/crewrun/tls"), description="Folder with tls.crt, tls.key and ca.crt for reports."
    )
    version: str = Field(default="unknown", description="What this operator is, for its metrics.")
    log_level: str = Field(default="INFO", description="Least level that is logged.")

    @property
    def defaults(self) -> dict[str, Any]:
        """This operator's layer of every run's settings."""
        return {"pod": {"image": self.runner_image, "imagePullPolicy": self.runner_image_pull_policy}}

    @property
    def bounds(self) -> Policy:
        """The policy, by which this operator's own runner image is always allowed."""
        return self.policy.model_copy(update={"images": [*self.policy.images, self.runner_image]})
