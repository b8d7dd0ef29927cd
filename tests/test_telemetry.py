"""No library reports its use, whoever starts Python."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

READ = (
    "import stages, huggingface_hub.constants as hub, os;"
    "print(hub.HF_HUB_DISABLE_TELEMETRY, os.environ['MLFLOW_DISABLE_TELEMETRY'],"
    "os.environ['DVC_NO_ANALYTICS'], os.environ['DO_NOT_TRACK'])"
)


@pytest.mark.parametrize(
    ("own", "said"), [({}, "True true 1 1"), ({"MLFLOW_DISABLE_TELEMETRY": "no"}, "True no 1 1")]
)
def test_telemetry_is_off_without_make(own, said):
    kept = ("TELEMETRY", "ANALYTICS", "DO_NOT_TRACK")
    clean = {k: v for k, v in os.environ.items() if not any(part in k for part in kept)}
    done = subprocess.run(
        [sys.executable, "-c", READ],
        cwd=ROOT,
        env=clean | own,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == said
