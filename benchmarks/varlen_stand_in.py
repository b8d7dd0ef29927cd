"""A stand-in for `torch.nn.attention.varlen.varlen_attn` where there is no GPU.

It computes the same, row by row and with a mask, for tests and for the rehearsal of
`benchmarks.gpu_check`.
"""

import torch
from torch.nn import functional


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attend within rows of shape (tokens, heads, head size).

    Raises:
        ValueError: The kernel would refuse these tensors, or it would read beyond them.
    """
    lengths = cu_seq_q.diff().tolist()
    if len({query.dtype, key.dtype, value.dtype}) > 1 or query.shape[-1] != value.shape[-1]:
        raise ValueError("the tensors differ in precision or in the size of their heads")
    if enable_gqa != (query.shape[1] != key.shape[1]) or cu_seq_q.dtype != torch.int32:
        raise ValueError("wrong number of heads, or offsets that are not int32")
    if max_q != max(lengths) or sum(lengths) != len(query) or cu_seq_k is not cu_seq_q:
        raise ValueError("the offsets are not those of these rows")
    left, right = window_size
    found = []
    for row in zip(*(x.split(lengths) for x in (query, key, value)), strict=True):
        places = torch.arange(len(row[0]), device=query.device)
        distance = places[:, None] - places[None]
        mask = ((distance >= -right) | (right < 0)) & ((distance <= left) | (left < 0))
        heads = (x.transpose(0, 1)[None] for x in row)
        one = functional.scaled_dot_product_attention(*heads, mask, scale=scale, enable_gqa=True)
        found.append(one[0].transpose(0, 1))
    return torch.cat(found)
