"""The checks of a registered version, from the artifact back to the raw data."""

from collections.abc import Callable, Iterator
from functools import partial

from stages.core.errors import UserError
from tools.verify import code, data, model
from tools.verify.outcome import Outcome, unknown
from tools.verify.recorded import Recorded

CHECKS: dict[str, Callable[[Recorded], Outcome]] = {
    "served files": model.check_files,
    "chat template": model.check_template,
    "system prompt and limits": model.check_asked,
    "recorded origin": model.check_origin,
    "verdict": model.check_verdict,
    "value of the model": model.check_value,
    "answers of all arms": partial(data.check_outputs, folder="predictions/"),
    "weights and tokenizer": partial(data.check_outputs, folder="models/"),
    "prepared data": partial(data.check_outputs, folder="data/"),
    "raw data": data.check_raw_data,
    "base model": model.check_base_model,
    "configuration": code.check_configuration,
    "seeds": code.check_seeds,
    "git commit": code.check_commit,
    "changes since the commit": code.check_changes,
    "code of the metric": code.check_code,
    "packages": code.check_packages,
}


def check_all(recorded: Recorded) -> Iterator[tuple[str, Outcome]]:
    """Yield the name and the outcome of each check. What cannot be checked is unknown, with the reason."""
    for what, check in CHECKS.items():
        try:
            yield what, check(recorded)
        except (UserError, OSError) as error:
            yield what, unknown(" ".join(str(error).split()))
        except (LookupError, TypeError, ValueError) as error:  # from files that were changed
            yield what, unknown(f"the recorded files lack what this needs ({error!r})")
