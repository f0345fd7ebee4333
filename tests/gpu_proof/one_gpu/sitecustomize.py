"""Two processes of a training on one GPU, which NCCL refuses: they speak Gloo. Python imports this when it starts.

Ultralytics chooses the backend by whether there is NCCL, and on machines with two GPUs nothing here is used.
"""

import os

if "LOCAL_RANK" in os.environ:  # a process that torch's launcher has started
    from typing import Any

    import torch
    from torch import distributed

    reduce = distributed.reduce

    def reduce_average(tensor: torch.Tensor, dst: int, op: Any = distributed.ReduceOp.SUM, **others: Any) -> Any:
        """Gloo of older torch has no average."""
        if op != distributed.ReduceOp.AVG:
            return reduce(tensor, dst, op, **others)
        done = reduce(tensor, dst, distributed.ReduceOp.SUM, **others)
        if distributed.get_rank() == dst:
            tensor /= distributed.get_world_size()
        return done

    distributed.is_nccl_available = lambda: False
    distributed.reduce = reduce_average  # type: ignore[assignment]
