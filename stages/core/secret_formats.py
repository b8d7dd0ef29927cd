"""Find keys, tokens and passwords in texts, in time that is linear in the text.

A shape is a pattern and the literals of which every match contains one. A pattern is only tried if
a literal is in the text. Every pattern looks at a bounded number of characters from each place
where it may begin, or begins only where a run of its characters begins, so that no text makes it
slow. The formats come from the detectors of detect-secrets 1.5.0, from the rules of gitleaks 8 and
from the documentation of the services. A test compares them with the detectors of detect-secrets,
which are not used themselves because some of them are quadratic.

Guesses by entropy and by words such as `password` are not made. They raise many false alarms in
prose, and in hashes, UUIDs and pictures in base64, which are not secrets.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

HIDDEN = "[a secret]"
URL_PASSWORD = "password in a URL"  # noqa: S105 - a kind of secret


class Shape(NamedTuple):
    """What one kind of secret looks like."""

    kind: str
    literals: tuple[str, ...]
    """Every match contains one of them."""
    pattern: re.Pattern[str]


def _shape(kind: str, literals: str, pattern: str) -> Shape:
    return Shape(kind, tuple(literals.split()), re.compile(pattern, re.ASCII))


def _whole(characters: str, rest: str) -> str:
    """Match a character where a run of its kind begins, and then `rest`, which repeats the kind."""
    return f"{characters}(?<!{characters}.){characters}{rest}"


# The assignment of a value to a name, from the end of the name to the value.
TO = r"""["'\]]{0,2}(?:[ \t]{0,8}+(?:=>|:=|::|[=:,])[ \t]{0,8}+|[ \t]{1,8}+)["']?"""
NAME = r"(?:[Kk][Ee][Yy]|[Pp][Aa][Ss][Ss]|[Pp][Ww]|[Tt][Oo][Kk][Ee][Nn])"
URL_PART = r"[^:/?#\[\]@!$&'()*+,;=\s]+"

SHAPES = [
    # Language models and their tools.
    _shape(
        "OpenAI or similar API key",
        "sk-",
        r"sk-(?<![\w-]sk-)(?:(?:ant|proj|svcacct|admin|or|None)-[\w-]{20,}"
        r"|[\w-]*T3BlbkFJ\w{20}|(?=[A-Za-z]*\d)[A-Za-z0-9]{32,})",
    ),
    _shape("Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{30,}"),
    _shape("Hugging Face token", "api_org_", r"api_org_[A-Za-z0-9]{30,}"),
    _shape("Groq API key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    _shape("xAI API key", "xai-", r"xai-[A-Za-z0-9]{60,}"),
    _shape("Perplexity API key", "pplx-", r"pplx-[A-Za-z0-9]{40,}"),
    _shape("Replicate API token", "r8_", r"r8_[A-Za-z0-9]{37}"),
    _shape("NVIDIA API key", "nvapi-", r"nvapi-[\w-]{40,}"),
    _shape("Together API key", "tgp_v1_", r"tgp_v1_[\w-]{40,}"),
    _shape("LangSmith API key", "lsv2_", r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    _shape("Weights & Biases API key", "wandb_v1_", r"wandb_v1_\w{40,}"),
    _shape("Pinecone API key", "pcsk_", r"pcsk_\w{40,}"),
    _shape("Tavily API key", "tvly-", r"tvly-[\w-]{20,}"),
    _shape("Databricks token", "dapi", r"dapi[0-9a-f]{32}"),
    # Clouds.
    _shape(
        "AWS access key",
        "AKIA ASIA ABIA ACCA A3T",
        r"A(?:KIA|SIA|BIA|CCA|3T[A-Z0-9])[0-9A-Z]{16}",
    ),
    _shape("AWS Bedrock API key", "ABSK", r"ABSK[A-Za-z0-9+/]{100,}"),
    _shape(
        "AWS secret key",
        "aws Aws AWS",
        rf"[Aa][Ww][Ss](?<![A-Za-z]...)[\w .-]{{0,20}}?{NAME}\w{{0,8}}+{TO}[0-9a-zA-Z/+]{{40}}"
        r"(?![0-9a-zA-Z/+])",
    ),
    _shape("AWS secret key", "SecretAccessKey", rf"SecretAccessKey{TO}[0-9a-zA-Z/+]{{40}}"),
    _shape(
        "Google API key",
        "AIza GOCSPX- ya29.",
        r"AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,}",
    ),
    _shape(
        "Azure key", "AccountKey= SharedAccessKey=", r"(?:Account|SharedAccess)Key=[\w+/=]{43,88}"
    ),
    _shape("Azure OpenAI key", "JQQJ99", _whole(r"[A-Za-z0-9]", r"{51}JQQJ99\w{26}")),
    _shape("Azure client secret", "Q~", _whole(r"[\w~.-]", r"{2}\dQ~[\w~.-]{31,34}")),
    _shape("DigitalOcean token", "_v1_", r"do[oprt]_v1_[0-9a-f]{64}"),
    _shape("Fly access token", "fm2_ fo1_", r"(?:fm2|fo1)_[\w+/=-]{40,}"),
    _shape("Heroku API key", "HRKU-", r"HRKU-[\w-]{36,}"),
    _shape("Supabase key", "sbp_ sb_secret_", r"(?:sbp_[0-9a-f]{40}|sb_secret_[\w-]{20,})"),
    _shape("Vault token", "hvs. hvb.", r"hv[sb]\.[\w-]{24,}"),
    _shape(
        "IBM, Cloudant or SoftLayer key",
        "ibm Ibm IBM cloudant Cloudant CLOUDANT softlayer Softlayer SoftLayer SOFTLAYER",
        r"(?:[Ii][Bb][Mm]|[Cc][Ll][Oo][Uu][Dd][Aa][Nn][Tt]|[Ss][Oo][Ff][Tt][Ll][Aa][Yy][Ee][Rr])"
        rf"[\w-]{{0,24}}?{NAME}{TO}(?:[0-9a-z]{{64}}|[\w-]{{44}}|[0-9a-f]{{48}}|[a-z]{{24}})"
        r"(?![\w-])",
    ),
    _shape("SoftLayer key", "api.softlayer.com", r"api\.softlayer\.com/soap/v3(?:\.1)?/\w{64}"),
    # Source code, packages and deployments.
    _shape(
        "GitHub token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"gh[pousr]_\w{36,}|github_pat_\w{22,}",
    ),
    _shape(
        "GitLab token",
        "glpat- gldt- glft- glsoat- glrt- glcbt- glimt- glptt- glagent- gloas- glffct- GR1348941",
        r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas|ffct)-[\w-]{20,}|GR1348941[\w-]{20,}",
    ),
    _shape("Atlassian API token", "ATATT3", r"ATATT3[\w=-]{100,}"),
    _shape("npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _shape(
        "npm token",
        ":_authToken=",
        r":_authToken=\s{0,8}(?:npm_\S{1,200}|[A-Fa-f0-9-]{36})",
    ),
    _shape("PyPI token", "pypi-AgE", r"pypi-AgE[\w-]{70,}"),
    _shape("RubyGems API key", "rubygems_", r"rubygems_[0-9a-f]{48}"),
    _shape("Docker Hub token", "dckr_", r"dckr_(?:pat|oat)_[\w-]{27,}"),
    _shape(
        "Artifactory credentials",
        "AKC AP",
        r"A(?<!\w.)(?:KC[a-zA-Z0-9]{10,}|P[\dA-F](?=[a-zA-Z]*\d)[a-zA-Z0-9]{8,})(?!\w)",
    ),
    _shape("Grafana token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    _shape("New Relic key", "NRAK-", r"NRAK-[A-Z0-9]{27}"),
    _shape("Sentry token", "sntrys_ sntryu_", r"sntry[su]_[\w+/=]{40,}"),
    _shape("Postman API key", "PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    # Messages, payments and offices.
    _shape(
        "Slack token",
        "xox XOX xapp- hooks.slack.com/",
        r"[xX][oO][xX][a-zA-Z][.-](?:\d+-)?[\w-]{10,}|xapp-\d-[\w-]{20,}"
        r"|hooks\.slack\.com/(?:services|workflows|triggers)/\w+/\w+/\w+",
    ),
    _shape(
        "Discord bot token",
        ".",
        r"[MNO](?<![\w-].)[\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}",
    ),
    _shape("Telegram bot token", ":A", r"\d(?<!\d.)\d{7,9}:A[\w-]{34}"),
    _shape("Twilio API key", "AC SK", r"(?:AC|SK)[0-9a-z]{32}"),
    _shape("SendGrid API key", "SG.", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _shape("Mailchimp API key", "-us", _whole("[0-9a-z]", r"{31}-us\d{1,2}")),
    _shape("Brevo API key", "xkeysib-", r"xkeysib-[0-9a-f]{64}"),
    _shape("Stripe API key", "k_live_ k_prod_ whsec_", r"[rs]k_(?:live|prod)_\w{24}|whsec_\w{32}"),
    _shape("Square credentials", "sq0csp- sq0atp-", r"sq0(?:csp-[\w-]{43}|atp-[\w-]{22})"),
    _shape("Shopify token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _shape("Airtable token", "pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    _shape("Linear API key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}"),
    _shape("Notion token", "ntn_ secret_", r"(?:ntn|secret)_[A-Za-z0-9]{40,}"),
    _shape("Figma token", "figd_", r"figd_[\w-]{40}"),
    # Formats of no single service.
    _shape("JSON Web Token", ".eyJ", r"eyJ(?<![\w-]eyJ)[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)*"),
    _shape(URL_PASSWORD, "://", rf"://{URL_PART}:{URL_PART}@"),
    _shape(
        "private key",
        "PRIVATE PuTTY-User-Key-File- AGE-SECRET-KEY-1",
        r"BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY[\w+/=\s\\:,.-]*"
        r"|PuTTY-User-Key-File-[\w+/=\s\\:,.-]*|AGE-SECRET-KEY-1[0-9A-Z]{58}",
    ),
]
LITERALS = [(literal, shape) for shape in SHAPES for literal in shape.literals]
# JSON in a text writes some characters with a backslash, or with several if it is nested.
CODE = re.compile(r"(?<!\\)\\++u([0-9a-fA-F]{4})")
SPACE = re.compile(r"(?<!\\)\\++(?:[bfnrt]|(?=[A-Za-z0-9]))")


def kinds_of_secrets(text: str) -> list[str]:
    """Return the names of the kinds of secrets in a text, also where JSON has escaped it."""
    return list(dict.fromkeys(shape.kind for shape in _find(_unescape(text))))


def find_fields_with_secrets(values: Iterable[tuple[str, Any]]) -> dict[str, list[str]]:
    """Look at every string of some JSON values, the keys included.

    Args:
        values: Each value with the field that holds it.

    Returns:
        For each field with secrets the names of their kinds.
    """
    texts = [(field, _unescape("\n".join(strings(value)))) for field, value in values]
    # Most rows hold none, and a row can have many short texts.
    found = _find("\n".join(text for _, text in texts))
    fields: dict[str, dict[str, None]] = {}
    for field, text in texts if found else []:
        for shape in found:
            if shape.pattern.search(text):
                fields.setdefault(field, {})[shape.kind] = None
    return {field: list(kinds) for field, kinds in fields.items()}


def mask_secrets(text: str, mask: str = HIDDEN) -> str:
    """Return the text with `mask` in place of each secret, or of all if JSON has escaped one."""
    for shape in _find(text):
        text = shape.pattern.sub(mask, text)
    return mask if "\\" in text and kinds_of_secrets(text) else text


def strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value in its order, keys included, however deeply nested."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack += [part for pair in reversed(item.items()) for part in reversed(pair)]
        elif isinstance(item, list | tuple):
            stack += reversed(item)


def _find(text: str) -> list[Shape]:
    possible = {shape.pattern: shape for literal, shape in LITERALS if literal in text}
    return [shape for pattern, shape in possible.items() if pattern.search(text)]


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    decoded = CODE.sub(lambda code: chr(int(code[1], 16)), text)
    return SPACE.sub(" ", decoded).replace("\\", "")
