"""The sections of the configuration for measurements and costs."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.core.config.base import Count, Name, Section

Price = Annotated[float, Field(ge=0)]


class TokenPrices(Section):
    """The prices of a provider for tokens, in `currency`."""

    per_million_input_tokens: Price
    per_million_cached_input_tokens: Price
    """The price of prompt tokens that the provider computed for an earlier request."""
    per_million_output_tokens: Price


class MachinePrices(Section):
    """What the machine that answers costs, and how it is used."""

    per_hour: Price
    """The price of an hour of the machine that answers."""
    batch_size: Count
    """How many requests the machine answers together in the scenario `batches`."""
    concurrent_requests: Count
    """How many requests the machine answers at the same time as a server."""
    utilization: Annotated[float, Field(gt=0, le=1)]
    """The share of the paid hours in which a server has this many requests to answer."""
    repeats: Annotated[int, Field(ge=2)]
    """How often to time the machine. The spread of the repeats enters every bound on costs."""


class TrainingPrices(Section):
    """What must be paid before the first request to the tuned model."""

    per_hour: Price
    """The price of an hour of the machine that trains."""
    relative_error: Annotated[float, Field(ge=0, lt=1)]
    """The relative error of the seconds of training, which were measured at another time. It widens
    every break-even interval."""
    per_labelled_row: Price
    """The price of labelling one training row."""


class TokenListPrices(Section):
    """The price list for the scenario `tokens`."""

    base: TokenPrices
    """The prices of the base model."""
    tuned: TokenPrices
    """The prices of tuned models. Hosted tuned models usually cost 1.5 to 2 times as much."""
    per_million_training_tokens: Price | None
    """The price of training tokens. Null if training is paid by `training.per_hour` instead."""
    min_cached_tokens: Annotated[int, Field(ge=0)]
    """A common prefix with fewer tokens is charged as input, not as cached input."""


class Prices(Section):
    """What compute costs, in `currency`, and how many requests are expected."""

    currency: Name
    """The currency of all prices."""
    scenario: Literal["batches", "server", "server_prefix_cache", "tokens"]
    """The scenario that the verdict uses. The report shows all of them."""
    requests_per_month: Count
    horizon_months: Count
    """The number of months within which the tuned model must pay back its training to count as
    cheaper."""
    hosting_per_month: Price
    """What a tuned model costs per month beyond the base model, in every scenario."""
    value_of_right_answer: Price | None
    """What a right answer is worth. Null leaves the value of answers out of the report."""
    machine: MachinePrices
    training: TrainingPrices
    tokens: TokenListPrices
    remote: TokenPrices
    """The price list of the arm `remote`, in every scenario."""


class LmEvalConfig(Section):
    """Public suites on which lm-evaluation-harness tests the base model and the tuned model."""

    tasks: list[Name]
    """The names of the suites in lm-evaluation-harness. An empty list runs none."""
    folder: str | None
    """A folder with your own task definitions."""
    limit: Count | None
    """How many items of each task to run. Null runs all."""
    batch_size: Count


class EvaluateConfig(Section):
    """The metrics, the statistics and the rule for the verdict."""

    split: Literal["test", "validation"]
    """The split whose rows every arm answers. `validation` is for sweeps: it does not count as a
    look at the test rows, and nothing is registered."""
    metrics: Annotated[list[Name], Field(min_length=1)]
    """The metrics to measure. They are names of folders under `stages/core/metrics`."""
    options: dict[str, dict[str, Any]]
    """The options of metrics, under the name of each metric."""
    primary_metric: Name
    """The metric that decides the verdict."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """The confidence of every interval, and of the one-sided bounds that decide the verdict."""
    margin: Annotated[float, Field(ge=0, lt=1)]
    """The smallest improvement of the primary metric that matters."""
    min_useful_value: float | None
    """The smallest value of the primary metric that is useful. No arm below it is recommended. Null
    sets no such limit."""
    cut_answers: Literal["unknown", "wrong"]
    """What the verdict makes of answers that `prompt.max_new_tokens` ended. `unknown` keeps it open
    if it would be another one had they become right. `wrong` makes the limit a part of the task."""
    slices: list[Name]
    """How to divide the rows into parts that are compared too: by `length`, `label` or columns of
    `data.metadata_columns`."""
    extra_arms: list[Literal["tuned_long"]]
    """Arms that are measured too, for information only. `tuned_long` asks the tuned model with the
    instruction of the prompted arms."""
    forgetting: bool
    """Whether the base model and the tuned model answer the general suite."""
    lm_eval: LmEvalConfig
    target_loglikelihood: bool
    """Whether each arm also computes the likelihood of the targets, which `perplexity` needs."""
    prices: Prices

    @model_validator(mode="after")
    def _primary_is_measured(self) -> "EvaluateConfig":
        if self.primary_metric not in self.metrics:
            raise ValueError(
                f"primary_metric {self.primary_metric!r} must be one of metrics {self.metrics}"
            )
        if "perplexity" in self.metrics and not self.target_loglikelihood:
            raise ValueError("the metric perplexity needs evaluate.target_loglikelihood=true")
        return self
