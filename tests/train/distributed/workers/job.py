"""A job whose workers are those of `fails.py`: submitit carries it into another process by its name."""

from stages.train.distributed import accelerate_args, slurm


class FailingTask(slurm.Task):
    def __call__(self):
        accelerate_args.MODULE = "tests.train.distributed.workers.fails"
        super().__call__()
