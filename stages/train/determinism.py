"""Describe whether the same command gives the same weights again, and record torch's settings."""

import os
from typing import Any

# Each of these variables changes which kernel computes a sum or how many threads it uses.
# `training.json` records those that are set.
VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
    "CUBLAS_WORKSPACE_CONFIG",
    "FLASH_ATTENTION_DETERMINISTIC",
    "NVIDIA_TF32_OVERRIDE",
    "NCCL_ALGO",
)
# With these two values cuBLAS guarantees reproducible sums (source: NVIDIA, cuBLAS library).
ORDERED_CUBLAS = (":16:8", ":4096:8")
SWITCH = (
    "+train.args.full_determinism=true, a switch of transformers, selects deterministic kernels, "
    "which are slower"
)


def describe_determinism(attention: str | None = None) -> dict[str, Any]:
    """Describe the device, the settings and whether a second run gives the same bits.

    Call this function after training, because `full_determinism` of transformers sets its switches
    when the trainer is created.

    Args:
        attention: The model's attention implementation, as transformers names it.

    Returns:
        The facts for `training.json`, including `what_may_differ`, an explanation in words.
    """
    import torch

    settings = {
        "processes": _processes(),
        "attention": attention,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    return _on_cuda(settings) if torch.cuda.is_available() else _on_cpu(settings)


def _on_cpu(settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "device": "cpu",
        "deterministic": True,
        "what_may_differ": (
            f"Nothing, given the same rows, seed, versions and processor ({capability}) and "
            f"{threads} thread(s) in {settings['processes']} process(es). The weights are then "
            "identical bit for bit. Another number of threads or processes, another processor or "
            "another version of torch rounds sums differently."
        ),
        **settings,
        "threads": threads,
        "interop_threads": torch.get_num_interop_threads(),
        "mkldnn": torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled),
        "instructions": capability,
    }


def _on_cuda(settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    ordered = (
        settings["deterministic_algorithms"]
        and not torch.is_deterministic_algorithms_warn_only_enabled()
        and settings["environment"].get("CUBLAS_WORKSPACE_CONFIG") in ORDERED_CUBLAS
    )
    if ordered:
        what = (
            "Nothing, given the same kind and number of GPUs and the same versions. "
            "Other GPUs or versions round sums differently."
        )
    else:
        what = (
            "The last digits differ from run to run, and with them the course of training. "
            f"{_unordered(settings)}. {SWITCH}."
        )
    return {
        "device": torch.cuda.get_device_name(),
        "deterministic": bool(ordered),
        "what_may_differ": what,
        **settings,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
    }


def _unordered(settings: dict[str, Any]) -> str:
    """Explain which operations add in no fixed order."""
    attention = settings["attention"] or "sdpa"
    of_attention = {
        "sdpa": "the backward pass of its flash and memory-efficient kernels adds with atomics",
        "flash_attention_2": (
            "its backward pass adds with atomics unless FLASH_ATTENTION_DETERMINISTIC=1"
        ),
        "varlen": "its backward pass adds with atomics",
        "eager": "its matrix products come from cuBLAS",
    }
    known = of_attention.get(
        attention, "it is not known whether its backward pass adds in a fixed order"
    )
    return f"cuBLAS may split a sum among streams. For attention {attention}, {known}"


def _processes() -> int:
    from torch import distributed

    return (
        distributed.get_world_size()
        if distributed.is_available() and distributed.is_initialized()
        else 1
    )
