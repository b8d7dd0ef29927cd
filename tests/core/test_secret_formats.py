"""Test which secrets are found in texts, and that no text makes the search slow.

The examples are made up and built from pieces, so that scanners of the repository do not find them.
"""

import base64
import json
import random
import time
import uuid

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.core.secret_formats import HIDDEN, SHAPES, kinds_of_secrets, mask_secrets

AB = "aB3dE5gH7j" * 30
HEX = "0a1b2c3d4e5f6789" * 10
CAPITALS = "A2B3C4D5E6F7G2H3" * 8

EXAMPLES = {
    "Anthropic": f"sk-ant-api03-{AB[:95]}",
    "OpenAI project": f"sk-proj-{AB[:60]}T3Blbk" + f"FJ{AB[:60]}",
    "OpenAI service account": f"sk-svcacct-{AB[:60]}",
    "OpenAI": f"sk-{AB[:20]}T3Blbk" + f"FJ{AB[:20]}",
    "DeepSeek": f"sk-{HEX[:32]}",
    "OpenRouter": f"sk-or-v1-{HEX[:64]}",
    "Hugging Face": f"hf_{AB[:34]}",
    "Hugging Face organisation": f"api_org_{AB[:34]}",
    "Groq": f"gsk_{AB[:52]}",
    "xAI": f"xai-{AB[:80]}",
    "Perplexity": f"pplx-{AB[:48]}",
    "Replicate": f"r8_{AB[:37]}",
    "NVIDIA": f"nvapi-{AB[:64]}",
    "Together": f"tgp_v1_{AB[:43]}",
    "LangSmith": f"lsv2_pt_{HEX[:32]}_{HEX[:10]}",
    "Weights & Biases": f"wandb_v1_{AB[:60]}",
    "Pinecone": f"pcsk_{AB[:70]}",
    "Tavily": f"tvly-dev-{AB[:32]}",
    "Databricks": f"dapi{HEX[:32]}",
    "AWS": f"AKIA{CAPITALS[:16]}",
    "AWS for a session": f"ASIA{CAPITALS[:16]}",
    "AWS Bedrock": f"ABSK{AB[:120]}",
    "AWS secret": f"aws_secret_access_key = {AB[:40]}",
    "AWS secret in JSON": f'"SecretAccessKey": "{AB[:40]}"',
    "Google": f"AIza{AB[:35]}",
    "Google client": f"GOCSPX-{AB[:28]}",
    "Google access": f"ya29.{AB[:60]}",
    "Azure storage": f"AccountKey={AB[:86]}==",
    "Azure OpenAI": f"{AB[:52]}JQQJ99{AB[:26]}",
    "Azure client": f"{AB[:3]}8Q~{AB[:34]}",
    "DigitalOcean": f"dop_v1_{HEX[:64]}",
    "Fly": f"fm2_{AB[:60]}",
    "Heroku": f"HRKU-{AB[:60]}",
    "Supabase": f"sbp_{HEX[:40]}",
    "Supabase secret": f"sb_secret_{AB[:31]}",
    "Vault": f"hvs.{AB[:90]}",
    "IBM": f"ibm_cloud_api_key: {AB[:44]}",
    "SoftLayer": f"https://api.softlayer.com/soap/v3/{HEX[:64]}",
    **{f"GitHub {kind}": f"gh{kind}_{AB[:36]}" for kind in "pousr"},
    "GitHub fine-grained": f"github_pat_{AB[:22]}_{AB[:59]}",
    "GitLab": f"glpat-{AB[:20]}",
    "GitLab runner": f"glrt-{AB[:20]}",
    "Atlassian": f"ATATT3{AB[:180]}",
    "npm": f"npm_{AB[:36]}",
    "npm registry": f"//registry.npmjs.org/:_authToken={uuid.UUID(int=7 << 100)}",
    "PyPI": f"pypi-AgE{AB[:90]}",
    "RubyGems": f"rubygems_{HEX[:48]}",
    "Docker": f"dckr_pat_{AB[:27]}",
    "Artifactory": f"AKC{AB[:20]}",
    "Grafana": f"glsa_{AB[:32]}_{HEX[:8]}",
    "New Relic": f"NRAK-{CAPITALS[:27]}",
    "Sentry": f"sntrys_{AB[:80]}",
    "Postman": f"PMAK-{HEX[:24]}-{HEX[:34]}",
    **{f"Slack {kind}": f"xox{kind}-1234567890-{AB[:24]}" for kind in "abeoprs"},
    "Slack app": f"xapp-1-{CAPITALS[:11]}-1234567890-{HEX[:64]}",
    "Slack hook": f"https://hooks.slack.com/services/T{CAPITALS[:8]}/B{CAPITALS[:8]}/{AB[:24]}",
    "Discord": f"M{AB[:23]}.{AB[:6]}.{AB[:27]}",
    "Telegram": f"123456789:AA{AB[:33]}",
    "Twilio": f"SK{HEX[:32]}",
    "SendGrid": f"SG.{AB[:22]}.{AB[:43]}",
    "Mailchimp": f"{HEX[:32]}-us12",
    "Brevo": f"xkeysib-{HEX[:64]}-{AB[:16]}",
    "Stripe": f"sk_live_{AB[:24]}",
    "Stripe hook": f"whsec_{AB[:32]}",
    "Square": f"sq0csp-{AB[:43]}",
    "Shopify": f"shpat_{HEX[:32]}",
    "Airtable": f"pat{AB[:14]}.{HEX[:64]}",
    "Linear": f"lin_api_{AB[:40]}",
    "Notion": f"ntn_{AB[:46]}",
    "Figma": f"figd_{AB[:40]}",
    "JWT": ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}', AB[:32].encode())
    ),
    "password in a URL": f"postgres://someone:{AB[:9]}@example.com/db",
    "private key": "-----BEGIN RSA PRIVATE" + f" KEY-----\n{AB}\n-----END RSA PRIVATE KEY-----",
    "encrypted private key": "-----BEGIN ENCRYPTED PRIVATE" + f" KEY-----\n{AB}\n",
    "PuTTY key": "PuTTY-User-Key-File-" + "3: ssh-ed25519",
    "age key": f"AGE-SECRET-KEY-1{CAPITALS[:58]}",
}  # fmt: skip

NO_SECRETS = {
    "prose": "The password is a secret, and the risk-based task-oriented desk-job has an api_key.",
    "address": "Call 8.8.8.8 or https://example.com:8080/a@b?user=x:y@z",
    "MD5": f"id {HEX[:32]}",
    "hash after a word that ends as a prefix does": f"task-{HEX[:32]} disk-{HEX[:40]}",
    "SHA-1": HEX[:40],
    "SHA-256": f"sha256:{HEX[:64]}",
    "UUID": str(uuid.UUID(int=7 << 100)),
    "picture": "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(9999)).decode(),
    "integrity": f"sha512-{base64.b64encode(bytes(range(64))).decode()}",
    "placeholder": "OPENAI_API_KEY=sk-... HF_TOKEN=hf_xxx export GITHUB_TOKEN=ghp_your_token",
    "capitals": "APERIODICALLY APARTMENTS AKCAKOCA",
    "environment": "os.environ['AWS_SECRET_ACCESS_KEY'], key=${AWS_SECRET_ACCESS_KEY}",
    "file": "/usr/lib/python3/dist-packages/sk_live_video/AKIA.txt",
    "time": "12345678:An hour later, at 2024-01-01T12:00:00",
    "public key": "-----BEGIN PUBLIC KEY-----",
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("around", ["{}", "use {}.", '"{}"', "key={}\n", "秘密{}です"])
def test_a_secret_of_each_format_is_found_and_hidden(name, around):
    text = around.format(EXAMPLES[name])
    assert kinds_of_secrets(text)
    hidden = mask_secrets(text)
    assert HIDDEN in hidden and not kinds_of_secrets(hidden)
    assert EXAMPLES[name] not in hidden and AB[:30] not in hidden and HEX[:30] not in hidden


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_secret_is_found_however_often_json_has_escaped_it(name):
    text = f"\n{EXAMPLES[name]}\n"
    for _ in range(3):
        text = json.dumps(text)
        assert kinds_of_secrets(text)
        assert AB[:30] not in mask_secrets(text)
    coded = "".join(f"\\u{ord(character):04x}" for character in EXAMPLES[name])
    assert kinds_of_secrets(coded) and mask_secrets(coded) == HIDDEN
    assert kinds_of_secrets(EXAMPLES[name].replace("_", "\\_").replace("/", "\\/"))


@pytest.mark.parametrize("name", NO_SECRETS)
def test_what_only_looks_like_a_secret_is_left_alone(name):
    assert kinds_of_secrets(NO_SECRETS[name]) == []
    assert mask_secrets(NO_SECRETS[name]) == NO_SECRETS[name]


# Some detectors know more: public addresses, tokens of Telegram that do not begin with A, names as
# short as `sl` and `key` for the keys of IBM, and encodings that no JSON Web Token has.
WIDER = {
    "Public IP (ipv4)", "Telegram Bot Token", "Cloudant Credentials", "IBM Cloud IAM Key",
    "IBM COS HMAC Credentials", "SoftLayer Credentials", "JSON Web Token", "NPM tokens",
    "AWS Access Key", "Artifactory Credentials", "Slack Token", "Square OAuth Secret",
}  # fmt: skip
ASCII = st.characters(max_codepoint=127, exclude_characters="\\")
PATTERNS = [
    pattern
    for kind, detector in get_mapping_from_secret_type_to_class().items()
    if issubclass(detector, RegexBasedDetector) and kind not in WIDER
    for pattern in detector.denylist
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:30])
@given(data=st.data())
@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
def test_what_detect_secrets_knows_is_found(pattern, data):
    assert kinds_of_secrets(data.draw(st.from_regex(pattern, fullmatch=True, alphabet=ASCII)))


def test_every_match_contains_a_literal():
    for text in EXAMPLES.values():
        for shape in SHAPES:
            if shape.pattern.search(text):
                assert any(literal in text for literal in shape.literals), shape.kind


def repeat(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


@pytest.mark.parametrize(
    "unit",
    [
        *("/", "//", "eyJ", "eyJ.", " eyJaaaaaaaa.", "://", "://a:", "://a:b", "sk-", "sk-a", "\\"),
        *("https://example.com/a/b?c=d ", "\\n", "\\u0041", "aws_key ", "awspw", "ibmkey   ", "A"),
        *("BEGIN A B ", ":_authToken=  ", "xoxa-1-", "Maaaaaaaaaaaaaaaaaaaaaaaa.", "a\u0301", "1:A"),
        *(literal for shape in SHAPES for literal in shape.literals),
        " ".join(literal for shape in SHAPES for literal in shape.literals),
    ],
)  # fmt: skip
def test_no_text_makes_the_search_slow(unit):
    text = repeat(unit, 200_000)
    started = time.process_time()
    kinds_of_secrets(text)
    # A hundred times what it takes. The detectors that the shapes replace take minutes.
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_part_of_a_secret_makes_the_search_slow(name):
    secret = EXAMPLES[name]
    for part in (secret[:6], secret[: len(secret) // 2], secret[:-1], f"{secret[:-1]} "):
        text = repeat(part, 50_000)
        started = time.process_time()
        kinds_of_secrets(text)
        assert time.process_time() - started < 2
