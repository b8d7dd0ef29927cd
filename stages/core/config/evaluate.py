"""The sections of the configuration that say what is measured, and what it costs."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.core.config.base import Count, Name, Section

Price = Annotated[float, Field(ge=0)]


class TokenPrices(Section):
    """What a provider charges for tokens, in `currency`."""

    per_million_input_tokens: Price
    per_million_cached_input_tokens: Price
    """The price of prompt tokens that the provider has computed for an earlier request."""
    per_million_output_tokens: Price


class MachinePrices(Section):
    """The machine that answers."""

    per_hour: Price
    batch_size: Count
    """How many requests are answered together in the scenario `batches`."""
    concurrent_requests: Count
    """How many requests a server answers at the same time."""
    utilization: Annotated[float, Field(gt=0, le=1)]
    """The share of the hours paid for in which a server has so many requests to answer."""
    repeats: Annotated[int, Field(ge=2)]
    """How often the machine is timed; the spread between the repeats enters every bound of costs."""


class TrainingPrices(Section):
    """What has to be paid before the first tuned request."""

    per_hour: Price
    """The price of an hour of the machine that trains."""
    relative_error: Annotated[float, Field(ge=0, lt=1)]
    """How far the seconds of training may be off, for they were taken at another hour; widens every break-even."""
    per_labelled_row: Price
    """The price of the label of one training row."""


class TokenListPrices(Section):
    """A price list by tokens, for the scenario `tokens`."""

    base: TokenPrices
    tuned: TokenPrices
    """Hosted tuned models usually cost 1.5 to 2 times as much."""
    per_million_training_tokens: Price | None
    """The price of training by tokens; null where it is paid by `training.per_hour` instead."""
    min_cached_tokens: Annotated[int, Field(ge=0)]
    """A common prefix of fewer tokens is charged as input, not as cached input."""


class Prices(Section):
    """What compute costs, in `currency`, and how many requests there are."""

    currency: Name
    scenario: Literal["batches", "server", "server_prefix_cache", "tokens"]
    """The scenario that decides; the report shows all of them."""
    requests_per_month: Count
    horizon_months: Count
    """Within so many months training has to be paid back for the tuned model to count as cheaper."""
    hosting_per_month: Price
    """What a month of a tuned model costs beyond one of the base model, in every scenario."""
    value_of_right_answer: Price | None
    """What a right answer is worth; null leaves it out."""
    machine: MachinePrices
    training: TrainingPrices
    tokens: TokenListPrices
    remote: TokenPrices
    """The price list of the arm `remote`, in every scenario."""


class HarnessConfig(Section):
    """Known suites, asked of base and tuned model by lm-evaluation-harness."""

    tasks: list[Name]
    """The names of the suites in lm-evaluation-harness; an empty list asks none."""
    folder: str | None
    """A folder with definitions of tasks of your own."""
    limit: Count | None
    """How many items of each task are asked; null asks all."""
    batch_size: Count


class EvaluateConfig(Section):
    """Metrics, statistics and the rule of the verdict."""

    split: Literal["test", "validation"]
    """Whose rows every arm answers. `validation` is for sweeps: no look at the test rows, and nothing is registered."""
    metrics: Annotated[list[Name], Field(min_length=1)]
    """The metrics that are measured: names of folders under `stages/core/metrics`."""
    options: dict[str, dict[str, Any]]
    """The options of some of the metrics, by the name of the metric."""
    primary_metric: Name
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """The confidence of every interval, and of the one-sided bounds that the verdict goes by."""
    margin: Annotated[float, Field(ge=0, lt=1)]
    """The smallest improvement of the primary metric that is worth having."""
    useful: float | None
    """The least value of the primary metric that is of any use: no arm below it is recommended. Null knows none."""
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
            raise ValueError(
                f"primary_metric {self.primary_metric!r} must be one of metrics {self.metrics}"
            )
        if "perplexity" in self.metrics and not self.likelihood:
            raise ValueError("the metric perplexity needs evaluate.likelihood=true")
        return self
