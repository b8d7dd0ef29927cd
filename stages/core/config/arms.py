"""Names of arms: the ways to answer that are compared."""

CONSTANT_ARM = "constant"
MODEL_FREE_ARMS = (CONSTANT_ARM, "nearest", "lookup")
"""Answers that cost nothing; `lookup` is there where targets are parts of the question."""
CONSTRAINED_ARM = "constrained"
BASE_ARMS = ("zero_shot", "few_shot", "retrieval", CONSTRAINED_ARM)
"""On the base model; `constrained` is there where the targets are a closed set."""
REMOTE_ARM = "remote"
TUNED_ARM = "tuned"
RESERVED = (*MODEL_FREE_ARMS, *BASE_ARMS, REMOTE_ARM, TUNED_ARM, "tuned_long")
"""A rival, which is an arm under its own name, may have none of them."""
