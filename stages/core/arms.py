"""Names of arms: the ways to answer that are compared."""

MODEL_FREE_ARMS = ("constant", "nearest", "lookup")
BASE_ARMS = ("zero_shot", "few_shot", "retrieval")
REMOTE_ARM = "remote"
TUNED_ARM = "tuned"
RESERVED = (*MODEL_FREE_ARMS, *BASE_ARMS, REMOTE_ARM, TUNED_ARM, "tuned_long")
"""A rival, which is an arm under its own name, may have none of them."""
