"""The names of arms, which are the ways to answer that are compared."""

CONSTANT_ARM = "constant"
MODEL_FREE_ARMS = (CONSTANT_ARM, "nearest", "lookup")
"""Arms that use no model. `lookup` exists only if targets are parts of their questions."""
CONSTRAINED_ARM = "constrained"
BASE_ARMS = ("zero_shot", "few_shot", "retrieval", CONSTRAINED_ARM)
"""Arms that prompt the base model. `constrained` exists only if the targets are a closed set."""
REMOTE_ARM = "remote"
TUNED_ARM = "tuned"
RESERVED = (*MODEL_FREE_ARMS, *BASE_ARMS, REMOTE_ARM, TUNED_ARM, "tuned_long")
"""Names that no rival may have, because a rival is an arm under its own name."""
