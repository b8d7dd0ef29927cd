import json

import pytest
import torch

from stages.train.determinism import VARIABLES, describe_determinism


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = before


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")


def test_a_cpu_repeats_itself_with_as_many_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = json.loads(json.dumps(describe_determinism("eager")))
    assert (found["device"], found["deterministic"], found["threads"]) == ("cpu", True, 7)
    assert (
        found["environment"] == {"OMP_NUM_THREADS": "7"}
        and "7 thread(s) in 1 process(es)" in found["what_may_differ"]
    )
    assert found["mkldnn"] == torch.backends.mkldnn.is_available()
    assert found["interop_threads"] >= 1


def test_a_gpu_does_not_unless_told(gpu):
    found = json.loads(json.dumps(describe_determinism("sdpa")))
    assert (found["device"], found["deterministic"]) == ("A GPU", False)
    assert (
        "atomics" in found["what_may_differ"]
        and "full_determinism=true" in found["what_may_differ"]
    )
    assert {"cudnn_deterministic", "cudnn_benchmark", "allow_tf32"} <= found.keys()


def test_transformers_switch_makes_a_gpu_repeat_itself(gpu, monkeypatch):
    from transformers.trainer_utils import enable_full_determinism

    enable_full_determinism(0)
    assert describe_determinism("sdpa")["deterministic"]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    assert not describe_determinism("sdpa")["deterministic"]


def test_a_warning_is_no_promise(gpu, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert not describe_determinism("flash_attention_2")["deterministic"]
    assert (
        "FLASH_ATTENTION_DETERMINISTIC"
        in describe_determinism("flash_attention_2")["what_may_differ"]
    )
    assert "not known" in describe_determinism("flex_attention")["what_may_differ"]


def test_processes_are_those_of_the_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    assert describe_determinism()["processes"] == 4
