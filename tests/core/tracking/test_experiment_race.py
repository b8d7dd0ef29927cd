"""Two machines create the MLflow experiment of a server at once."""

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS

from stages.core.tracking.runs import get_experiment


def make_client(code):
    """A client of a server on which another machine has just created the experiment."""
    looks = iter([None, SimpleNamespace(experiment_id="7")])

    def create(*_, **others):
        raise MlflowException("exists", error_code=code)

    return SimpleNamespace(get_experiment_by_name=lambda _: next(looks), create_experiment=create)


def test_the_slower_one_takes_the_experiment_of_the_other():
    client = make_client(RESOURCE_ALREADY_EXISTS)
    assert get_experiment(client, "tuneproof", "http://server") == "7"


def test_another_failure_is_no_race():
    with pytest.raises(MlflowException):
        get_experiment(make_client(INTERNAL_ERROR), "tuneproof", "http://server")
