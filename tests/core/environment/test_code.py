"""Which code counts, and what of it."""

from stages.core.environment import code


def test_words_change_nothing_and_work_does(monkeypatch, tmp_path):
    monkeypatch.setattr(code, "ROOT", tmp_path)
    path = tmp_path / "module.py"

    def digest(text):
        path.write_text(text)
        return code.get_digests([path])["module.py"]

    plain = digest('"""Says."""\n\n\ndef add(a: int) -> int:\n    """Add."""\n    return a + 1\n')
    assert plain == digest("def add(a: int) -> int:  # why\n\n    return a + 1\n")
    assert plain != digest("def add(a: int) -> int:\n    return a + 2\n")
    assert digest('X = "a"') != digest('X = "b"')


def test_training_depends_on_its_rooms_and_on_no_other():
    listed = {path.relative_to(code.ROOT).as_posix() for path in code.list_code("train")}
    assert {"stages/train/loop.py", "stages/core/data/prompts.py"} <= listed
    other = {path.relative_to(code.ROOT).as_posix() for path in code.list_other_code("train")}
    assert {
        "stages/core/tracking/tracker.py",
        "stages/core/inference/engine.py",
    } <= other and not other & listed
