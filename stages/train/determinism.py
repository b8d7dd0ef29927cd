"""Would the same command give the same weights again? What torch was set to, for `training.json`."""

import os
from typing import Any

# Each of these changes which kernel computes a sum, or on how many threads: they are recorded where they are set.
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
ORDERED_CUBLAS = (
    ":16:8",
    ":4096:8",
)  # the two values with which cuBLAS promises the same sums (NVIDIA, cuBLAS library)
SWITCH = "train.args.full_determinism=true, transformers' own switch, takes ordered kernels, which are slower"


def describe(attention: str | None = None) -> dict[str, Any]:
    """Device, settings, whether a second run gives the same bits, and in words what may differ.

    Call it after training: transformers' `full_determinism` sets the switches when the trainer is made.

    Args:
        attention: the model's attention implementation, as transformers names it.
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
            f"Nothing with the same rows, seed, versions and processor ({capability}), with {threads} thread(s) in "
            f"{settings['processes']} process(es): the weights are the same bit for bit. Other threads, processes, "
            "processors or versions of torch round sums otherwise."
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
        what = "Nothing on the same kind and number of GPUs with the same versions; others round sums otherwise."
    else:
        what = (
            "The last digits, from run to run, and by them the course of training: "
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
    """What adds in no fixed order."""
    attention = settings["attention"] or "sdpa"
    of_attention = {
        "sdpa": "the backward pass of its flash and memory-efficient kernels adds by atomics",
        "flash_attention_2": "its backward pass adds by atomics unless FLASH_ATTENTION_DETERMINISTIC=1",
        "eager": "its products are cuBLAS's",
    }
    known = of_attention.get(
        attention, "whether its backward pass adds in a fixed order is not known"
    )
    return f"cuBLAS may split a sum among streams, and of attention {attention}, {known}"


def _processes() -> int:
    from torch import distributed

    return (
        distributed.get_world_size()
        if distributed.is_available() and distributed.is_initialized()
        else 1
    )
