"""Look at made-up versions in a real registry, promote them and roll back."""

import shutil
import sys
from types import SimpleNamespace

import pytest

from stages.core.config.schema import read_params
from stages.core.data.records import PREPARED
from stages.core.errors import UserError
from stages.core.storage.files import write_json, write_jsonl
from stages.core.tracking.version_files import ANSWERS, hash_artifact
from stages.core.tracking.versions import connect
from stages.register.condition import Condition, get_gate_tags
from stages.register.history import Move, find_previous, move_alias, read_history
from stages.register.promotion import UNFINISHED
from tests.conftest import ROOT, chat
from tools.registry import moves
from tools.registry.__main__ import main

NAME = "tuneproof-question-types"
ROWS = [chat(f"What is {n}?", "number" if n % 2 else "thing") for n in range(40)]
ASKED = {"method": "sft", "system_prompt": None, "max_new_tokens": 8, "max_length": 64}
PASSED = [Condition("minimum", True, "Good.", 0.9, 0.85, 0.5), Condition("look", True, "Counted.")]


@pytest.fixture
def registry(workspace, copy_tables, monkeypatch, capsys, tmp_path):
    """The registry of a workspace, and functions that add a version and run the tool."""
    import mlflow

    shutil.copy(ROOT / "params.yaml", workspace)
    write_jsonl(PREPARED / "test.jsonl", ROWS)
    copy_tables(workspace / "mlflow.db")
    client = connect(read_params().tracking)
    experiment = client.create_experiment("made-up", (workspace / "mlartifacts").as_uri())

    def add(right, conditions=PASSED, **tags):
        """Add a version that answers the first `right` rows correctly."""
        folder = tmp_path / f"model {right}"
        for path in ("model/weights", "components/tokenizer/vocabulary"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(f"{right}")
        mlflow.models.Model(metadata={"asked": ASKED}).save(str(folder / "MLmodel"))
        answers = {row.id: row.target if i < right else "no" for i, row in enumerate(ROWS)}
        write_json(folder / ANSWERS, answers)
        model = client.create_logged_model(experiment, "made-up")
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        values = {
            "files_sha256": hash_artifact(folder), "data": "question-types",
            "verdict": "fine-tune", "primary_metric": "accuracy", "primary_value": str(right / 40),
            "served_sha256": str(right),
        } | tags  # fmt: skip
        tagged = {f"tuneproof.{key}": text for key, text in values.items()}
        tagged |= get_gate_tags(conditions)
        return str(mlflow.register_model(f"models:/{model.model_id}", NAME, tags=tagged).version)

    def hand_over(version):
        """Give a version the alias as `register` does."""
        before = get_holder()
        move_alias(client, NAME, "champion", version, before, "register", "It passed the gate.")

    def get_holder():
        return next(
            (
                str(one)
                for one in [client.get_registered_model(NAME).aliases.get("champion")]
                if one
            ),
            None,
        )

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["registry", *arguments])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            if isinstance(end.code, str):
                raise
            status = end.code
        return status, " ".join(capsys.readouterr().out.split())

    return SimpleNamespace(
        client=client, add=add, hand_over=hand_over, get_holder=get_holder, run=run,
        moves=lambda: read_history(client, NAME)["champion"],
    )  # fmt: skip


@pytest.fixture
def champion(registry):
    """Version 1, right in 8 rows, was the champion, and version 2, right in 20, is it."""
    for right in (8, 20):
        registry.hand_over(registry.add(right))
    return registry


def test_the_list_shows_what_each_version_is_and_what_it_replaced(champion):
    champion.client.create_registered_model(f"{NAME}.lock")
    _, said = champion.run("list")
    assert said.startswith(NAME) and ".lock" not in said
    assert "│ 2 │ champion │ fine-tune │ accuracy 0.500 │ passed │" in said
    assert said.count("UTC │ 1 │") == said.count("UTC │ none │") == 1  # what each one replaced
    assert said.index("UTC │ 1 │") < said.index("UTC │ none │")  # the newest one first
    with pytest.raises(SystemExit, match="no registered model has the name nobody"):
        champion.run("list", "nobody")


def test_why_shows_the_conditions_the_history_and_the_lineage(champion):
    for reference in ("@champion", "2", f"{NAME}/2", f"{NAME}@champion"):
        _, said = champion.run("why", reference)
        assert said.startswith(f"{NAME} version 2, alias champion: registered 20")
    assert "passed: 0.9, bound 0.85, limit 0.5" in said and "passed: Counted." in said
    assert "register │ 2 │ 1 │ It passed the gate." in said and "│ served_sha256 │ 20 " in said
    _, said = champion.run("why", "1")
    assert "version 1, no alias" in said and "register │ 1 │ none" in said


def test_a_better_version_is_promoted_and_the_reason_recorded(champion):
    assert champion.add(39) == "3"
    status, said = champion.run("promote", "3")
    assert status == 0 and champion.get_holder() == "3"
    assert f"{NAME} version 3 has the alias champion. Version 2 had it before." in said
    assert "accuracy 0.975; the champion, version 2, has 0.500 on the same 40 test rows" in said
    last = champion.moves()[-1]
    assert (last.version, last.replaced, last.action) == ("3", "2", "promote")
    assert last.reason == "It passed the gate again (recorded, files, champion)."


def test_a_version_that_is_no_better_is_refused_unless_it_is_forced(champion):
    champion.add(21)
    status, said = champion.run("promote", "3")
    assert status == 1 and champion.get_holder() == "2" and len(champion.moves()) == 2
    assert f"{NAME} version 3 does not get the alias champion" in said
    assert "failed: accuracy 0.525; the champion" in said and "--force REASON" in said
    with pytest.raises(SystemExit, match="--force needs a reason"):
        champion.run("promote", "3", "--force", " ")
    status, said = champion.run("promote", "3", "--force", "It is cheaper.")
    assert status == 0 and champion.get_holder() == "3"
    reason = "Forced although these failed: champion. It is cheaper."
    assert champion.moves()[-1].reason == reason and reason in said


def change_weights(registry, workspace):
    registry.add(39)
    (path,) = [
        path for path in (workspace / "mlartifacts").rglob("weights") if path.read_text() == "39"
    ]
    path.write_text("other")


CASES = {
    "a failed condition": (
        lambda registry, _: registry.add(39, [*PASSED, Condition("leak", False, "It leaks.")]),
        "these conditions failed when the version was registered: leak",
    ),
    "no conditions": (
        lambda registry, _: registry.add(39, []),
        "the version has no record of its conditions",
    ),
    "changed files": (change_weights, "its files cannot be shown to be those measured"),
    "no rows": (
        lambda registry, _: registry.add(39) and (PREPARED / "test.jsonl").unlink(),
        "it cannot be compared with version 2, because data/prepared/test.jsonl is not here",
    ),
    "other rows": (
        lambda registry, _: registry.add(39, data="food"),
        "it cannot be compared with version 2, because data/prepared/test.jsonl has rows of "
        "question-types, and the version is for food",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_condition_that_does_not_hold_today_refuses_the_promotion(champion, workspace, case):
    prepare, sentence = CASES[case]
    prepare(champion, workspace)
    status, said = champion.run("promote", "3")
    assert status == 1 and f"failed: {sentence}" in said
    assert champion.get_holder() == "2"


def test_a_version_that_has_the_alias_is_not_promoted(champion):
    with pytest.raises(SystemExit, match="version 2 has the alias champion already"):
        champion.run("promote", "@champion")


def test_an_alias_that_another_process_moves_meanwhile_stays(champion, monkeypatch):
    champion.add(39)
    honest = moves.check_again

    def overtaken(*given):
        champion.hand_over("1")
        return honest(*given)

    monkeypatch.setattr(moves, "check_again", overtaken)
    with pytest.raises(SystemExit, match=r"has moved the alias champion of .* to version 1"):
        champion.run("promote", "3")
    assert champion.get_holder() == "1"
    assert [model.name for model in champion.client.search_registered_models()] == [NAME]


def test_a_rollback_goes_back_and_never_forward(champion):
    champion.hand_over(champion.add(30))
    for holder, before in (("2", "3"), ("1", "2")):
        status, said = champion.run("rollback", "--reason", "Customers complained.")
        assert status == 0 and champion.get_holder() == holder
        assert f"version {holder} has the alias champion again. Version {before} had it" in said
        last = champion.moves()[-1]
        assert (last.version, last.replaced, last.action) == (holder, before, "rollback")
        assert last.reason == "Customers complained."
    with pytest.raises(SystemExit, match="knows no version that had the alias champion before"):
        champion.run("rollback", "--reason", "Again.")
    _, said = champion.run("why", "2")
    assert "rollback │ 1 │ 2 │ Customers complained." in said


def test_a_rollback_needs_a_reason_and_unchanged_files(champion, workspace):
    with pytest.raises(SystemExit, match="--reason is empty"):
        champion.run("rollback", "--reason", "")
    (path,) = [
        path for path in (workspace / "mlartifacts").rglob("weights") if path.read_text() == "8"
    ]
    path.write_text("other")
    with pytest.raises(SystemExit, match="were changed after the registration"):
        champion.run("rollback", "--reason", "Why not.")
    assert champion.get_holder() == "2"
    status, _ = champion.run("rollback")
    assert status == 2


def test_a_move_that_fails_leaves_no_record(champion, monkeypatch):
    from mlflow import MlflowClient

    def broken(*_):
        raise ConnectionError("lost")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", broken)
    with pytest.raises(ConnectionError):
        champion.hand_over("1")
    assert [move.version for move in champion.moves()] == ["1", "2"]
    assert find_previous(champion.moves(), "2") == "1"


def test_a_move_whose_answer_was_lost_keeps_its_record(champion, monkeypatch):
    from mlflow import MlflowClient

    honest = MlflowClient.set_registered_model_alias

    def broken(client, *given):
        honest(client, *given)
        raise ConnectionError("lost")

    number = champion.add(30)
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", broken)
    with pytest.raises(ConnectionError):
        champion.hand_over(number)
    assert champion.get_holder() == number
    assert find_previous(champion.moves(), number) == "2"


def move(version, replaced, action="register"):
    return Move(version, replaced, action, "Because.", "now")


THREE = [move("1", None), move("2", "1"), move("3", "2")]


@pytest.mark.parametrize(
    ("more", "holder", "expected"),
    [
        ([], "3", ["2", "1"]),
        ([move("1", "3", "promote")], "1", ["3", "2", "1"]),
        ([move("1", "3", "promote")], "3", ["2", "1"]),  # the promotion was killed
        ([move("2", "3", "rollback"), move("4", "2")], "4", ["2", "1"]),
        ([move("5", "4")], "5", ["4", "3", "2", "1"]),  # 4 got the alias in the UI
        ([move("4", None)], "4", []),  # the alias was deleted in the UI
    ],
)
def test_rollbacks_go_back_to_the_first_holder_and_never_forward(more, holder, expected):
    moves = [*THREE, *more]
    found = []
    while (before := find_previous(moves, holder)) is not None:
        assert len(found) < 9
        found.append(before)
        moves.append(move(before, holder, "rollback"))
        holder = before
    assert found == expected


def test_a_champion_that_a_killed_process_left_unfinished_is_none_after_a_rollback(champion):
    number = champion.add(30, unfinished="true")
    champion.hand_over(number)
    champion.run("rollback", "--reason", "It is slow.")
    assert champion.get_holder() == "2"
    assert UNFINISHED not in champion.client.get_model_version(NAME, number).tags


def test_models_beyond_the_first_page_and_with_a_quote_in_their_name_are_listed(
    champion, monkeypatch
):
    from mlflow import MlflowClient

    champion.client.create_registered_model("bob's model")
    champion.client.create_model_version("bob's model", "somewhere")
    honest = MlflowClient.search_registered_models

    def of_one(client, *given, **more):
        return honest(client, *given, **{**more, "max_results": 1})

    monkeypatch.setattr(MlflowClient, "search_registered_models", of_one)
    _, said = champion.run("list")
    assert said.startswith("bob's model") and f" {NAME} " in said


def test_a_reason_in_another_script_is_kept_within_the_limit_of_a_tag(champion):
    move_alias(champion.client, NAME, "champion", "1", "2", "promote", "漢" * 3_000)
    tags = champion.client.get_registered_model(NAME).tags
    assert all(len(text) < 5_000 for text in tags.values())
    assert champion.moves()[-1].reason == "漢" * 2_000


@pytest.mark.parametrize("alias", ["a.b", "v3", "x y"])
def test_an_alias_that_mlflow_does_not_accept_is_explained(champion, alias):
    with pytest.raises(SystemExit, match=f"--alias: alias '{alias}' "):
        champion.run("promote", "1", "--alias", alias)


def test_an_empty_registry_says_how_to_fill_it(registry):
    with pytest.raises(SystemExit, match="the registry has no models"):
        registry.run("list")


def test_the_help_shows_how_to_use_each_command(registry, monkeypatch, capsys):
    for arguments in (["--help"], ["promote", "--help"]):
        monkeypatch.setattr(sys, "argv", ["registry", *arguments])
        with pytest.raises(SystemExit):
            main()
    said = capsys.readouterr().out
    assert "rollback --reason" in said and "--force REASON" in said


def test_a_name_without_a_version_is_explained(champion):
    with pytest.raises((SystemExit, UserError), match="Write <name>@<alias>"):
        champion.run("why", NAME)
