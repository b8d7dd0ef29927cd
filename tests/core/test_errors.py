import time

import pytest

from stages.core.errors import hide_secrets, list_secrets

PASSWORD = "pa55w0rd"  # noqa: S105


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://me:{PASSWORD}@host:80/a.jsonl", "http://***@host:80/a.jsonl"),
        (f"'https://{PASSWORD}@host/a' failed", "'https://***@host/a' failed"),
        (f"http://me:a/b?{PASSWORD}#c@host/x", "http://***@host/x"),
        (f"http://me:it's{PASSWORD}@host/x", "http://***@host/x"),
        (f"https://h/a?X-Amz-Signature={PASSWORD}&b=1", "https://h/a?X-Amz-Signature=***&b=***"),
        (f"https://h/a?{PASSWORD}", "https://h/a?***"),
        (f"https://h/a#access_token={PASSWORD}", "https://h/a#access_token=***"),
        (
            f"Max retries exceeded with url: /a?token={PASSWORD} (Caused by",
            "Max retries exceeded with url: /a?token=*** (Caused by",
        ),
        (f"Authorization: Bearer {PASSWORD}{PASSWORD}", "Authorization: Bearer ***"),
        (f"key hf_{PASSWORD * 4} is wrong", "key *** is wrong"),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(text, shown):
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000/v1/models",
        "http://host:8080/path@v2",
        "sqlite:////home/me/mlflow.db",
        "s3://bucket/*.jsonl",
        "checks.secret=drop, train.args.eos_token=x; is it so?",
        "sk-learn, task-abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_texts_without_secrets_stay(text):
    assert hide_secrets(text) == text and not list(list_secrets(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf_" + "aB3" * 12, "a secret (Hugging Face token)"),
        ("sk-proj-" + "aB3-" * 12, "a secret (OpenAI or similar API key)"),
        ("sk-ant-api03-" + "aB3-" * 12, "a secret (OpenAI or similar API key)"),
        ("x ghp_" + "aB3" * 12, "a secret (GitHub token)"),
        ("github_pat_" + "aB3_" * 12, "a secret (GitHub token)"),
        ("AKIA" + "A1B2" * 4, "a secret (AWS access key)"),
        ("AIza" + "aB3-x" * 7, "a secret (Google API key)"),
        ("xoxb-1234-" + "aB3" * 6, "a secret (Slack token)"),
        ("glpat-" + "aB3-" * 5, "a secret (GitLab token)"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a secret (private key)"),
        ("see https://me:secret@host/", "the user or password of a URL"),
        ("https://host/a?sv=1&sig=abc", "the parameter sig of a URL"),
        ("https://host/a?X-Goog-Signature=abc", "the parameter X-Goog-Signature of a URL"),
        ("https://host/a?access_token=abc", "the parameter access_token of a URL"),
    ],
)
def test_a_secret_is_described_but_not_repeated(text, said):
    assert list(list_secrets(text)) == [said]


def test_a_query_that_is_no_secret_is_no_finding():
    assert not list(list_secrets("https://host/a.jsonl?download=true&version=3"))


@pytest.mark.parametrize("part", ["a", "//a:", "://", "-eyJ", "?a=", "http://", "//a:@"])
def test_a_long_text_takes_no_quadratic_time(part):
    started = time.process_time()
    hide_secrets(part * (100_000 // len(part)))
    list(list_secrets(part * (100_000 // len(part))))
    assert time.process_time() - started < 5
