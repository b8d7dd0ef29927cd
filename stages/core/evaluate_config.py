"""The sections of the configuration that say what is measured, and what it costs."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.core.section import Count, Name, Section


class Prices(Section):
    """What compute costs, in `currency`."""

    currency: Name
    machine_hour: Annotated[float, Field(ge=0)]
    """Of this machine; 0 where tokens are paid."""
    input_million: Annotated[float, Field(ge=0)]
    """Of a million tokens of prompts; 0 where hours are paid."""
    output_million: Annotated[float, Field(ge=0)]
    remote_input_million: Annotated[float, Field(ge=0)]
    """The same of the arm `remote`, which costs no hours of this machine."""
    remote_output_million: Annotated[float, Field(ge=0)]
    hosting_month: Annotated[float, Field(ge=0)]
    """What a month of a tuned model costs beyond one of the base model."""
    requests_month: Count


class HarnessConfig(Section):
    """Known suites, asked of base and tuned model by lm-evaluation-harness."""

    tasks: list[Name]
    """Its names of them; none is asked without one."""
    folder: str | None
    """With definitions of tasks of your own."""
    limit: Count | None
    """Items of each task; null asks all."""
    batch_size: Count


class EvaluateConfig(Section):
    """Metrics, statistics and the rule of the verdict."""

    split: Literal["test", "validation"]
    """Whose rows every arm answers. `validation` is for sweeps: no look at the test rows, and nothing is registered."""
    metrics: Annotated[list[Name], Field(min_length=1)]
    """Folders under `stages/evaluate/metrics`."""
    options: dict[str, dict[str, Any]]
    """Options of some of the metrics."""
    primary_metric: Name
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Of every interval, and of the one-sided bounds that the verdict goes by."""
    resamples: Annotated[int, Field(ge=100)]
    interval: Literal["percentile", "BCa"]
    """Kind of the bootstrap intervals."""
    margin: Annotated[float, Field(ge=0, lt=1)]
    """The smallest improvement of the primary metric that is worth having."""
    slices: list[Name]
    """Parts of the test rows to compare too: `length`, `label`, columns of `data.keep`."""
    extra_arms: list[Literal["tuned_long"]]
    """Answered too, for information: `tuned_long` asks the tuned model with the instruction of the prompted arms."""
    forgetting: bool
    """Whether base and tuned model answer the general suite."""
    harness: HarnessConfig
    likelihood: bool
    """Whether each arm also reads the targets, as the metric `perplexity` needs."""
    prices: Prices

    @model_validator(mode="after")
    def _primary_is_measured(self) -> "EvaluateConfig":
        if self.primary_metric not in self.metrics:
            raise ValueError(f"primary_metric {self.primary_metric!r} must be one of metrics {self.metrics}")
        if "perplexity" in self.metrics and not self.likelihood:
            raise ValueError("the metric perplexity needs evaluate.likelihood=true")
        return self
