"""The stages of the pipeline, none of which reports its use to anybody.

The libraries read these variables when they are imported, so they are set before any of them is. A
value of the user's own stays.
"""

import os

for _name, _value in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)
