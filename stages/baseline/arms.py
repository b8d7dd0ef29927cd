"""Let each prompted arm choose its prompt on validation rows and answer the test split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.baseline.asking import Asker, BaseAsker, get_shot_counts, has_room
from stages.baseline.candidates import Candidate, get_candidates
from stages.baseline.closed_set import get_allowed
from stages.baseline.retrieval import Retriever
from stages.baseline.search import Choice, search
from stages.core.config.arms import BASE_ARMS, CONSTRAINED_ARM
from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction, summarize_predictions, write_predictions
from stages.core.data.records import PREPARED, Record
from stages.core.errors import UserError
from stages.core.storage.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.core.inference.engine import Engine

TRAINING_TOKENS = PREPARED / "training_tokens.json"


class Arms:
    """Runs the prompted arms one after the other and collects their choices and numbers."""

    def __init__(
        self,
        config: Config,
        tokenizer: "PreTrainedTokenizerBase",
        train: Sequence[Record],
        validation: Sequence[Record],
        test: Sequence[Record],
        retriever: Retriever,
    ) -> None:
        """Read the token budget of the search and decide which numbers of examples to try.

        Raises:
            UserError: The budget is that of training and `prepare` has not counted its tokens.
        """
        self._config = config
        self._tokenizer = tokenizer
        self._train = train
        self._validation = validation
        self._test = test
        self._retriever = retriever
        self._shots = get_shot_counts(config, tokenizer, train, validation)
        self._budget = read_budget(config)
        self.choices: dict[str, dict[str, Any]] = {}
        """The entries of `predictions/choices.json`, by arm."""
        self.numbers: dict[str, dict[str, float]] = {}
        """The headline numbers of each arm that has answers."""

    def answer_all(self, engine: "Engine") -> None:
        """Answer the test rows with every arm on the base model."""
        asker = BaseAsker(self._config, engine, self._tokenizer, self._train, self._retriever)
        chosen = [self.answer(arm, asker) for arm in BASE_ARMS if arm != CONSTRAINED_ARM]
        self._answer_constrained(engine, asker, chosen)

    def answer(self, arm: str, asker: Asker) -> Candidate:
        """Choose an arm's prompt, write its answers to the test rows and return the choice."""
        prompt = self._config.prompt
        repeated = len({record.target for record in self._train}) < len(self._train)
        made = get_candidates(prompt, arm, self._shots, self._config.seed, repeated=repeated)
        where = (self._config, self._tokenizer, self._train)
        candidates = [
            candidate for candidate in made if has_room(*where, candidate, self._validation)
        ]
        first = [c for c in candidates if c.draw == self._config.seed and c.order == "given"]
        return self._choose(arm, asker, candidates, essential=len(first))

    def _answer_constrained(
        self, engine: "Engine", free: BaseAsker, chosen: Sequence[Candidate]
    ) -> None:
        """Answer with the prompts of the other arms, but only with training targets."""
        allowed, reason = get_allowed(
            self._tokenizer, self._train, self._config.prompt.max_new_tokens
        )
        if reason:
            self.choices[CONSTRAINED_ARM] = {"reason": reason, "trials": []}
            write_predictions(CONSTRAINED_ARM, [])
            return
        asker = BaseAsker(
            self._config, engine, self._tokenizer, self._train, self._retriever, allowed, free
        )
        self._choose(CONSTRAINED_ARM, asker, chosen, essential=len(chosen))
        self.choices[CONSTRAINED_ARM]["allowed_answers"] = len(allowed)

    def _choose(
        self, arm: str, asker: Asker, candidates: Sequence[Candidate], essential: int
    ) -> Candidate:
        choice = search(
            self._config, asker, arm, candidates, self._validation, self._budget, essential
        )
        predictions = asker(arm, choice.candidate, self._test)
        write_predictions(arm, predictions)
        self.choices[arm] = {**choice.describe(), **_count_left_out(predictions)}
        self.numbers[arm] = {**summarize_predictions(predictions), **_get_numbers(choice)}
        return choice.candidate


def read_budget(config: Config) -> int | None:
    """Read how many tokens the model may process in the search of one arm.

    Returns:
        The number of tokens, or None for the budget `cheap`, which depends on the candidates.

    Raises:
        UserError: The budget is that of training and `prepare` has not counted its tokens.
    """
    budget = config.prompt.search.budget
    if budget == "cheap":
        return None
    if budget != "training":
        return budget
    found = read_json(TRAINING_TOKENS)["tokens"]
    if found is None:
        raise UserError(
            f"{TRAINING_TOKENS} has no token count of training, which prompt.search.budget=training"
            " needs: run prepare with the same configuration (`dvc exp run` does)"
        )
    return found


def _count_left_out(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Count the test rows whose prompts lost examples to the context limit, and those examples."""
    counts = [answer.shots_left_out for answer in predictions]
    return {"left_out": {"rows": sum(map(bool, counts)), "shots": sum(counts)}}


def _get_numbers(choice: Choice) -> dict[str, float]:
    return {
        "shots": choice.candidate.shots,
        "search_tokens": choice.tokens,
        "search_seconds": choice.seconds,
    }
