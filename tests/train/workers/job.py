"""A job whose workers are those of `fails.py`: submitit carries it into another process by its name."""

from stages.train import flags, slurm


class FailingTask(slurm.Task):
    def __call__(self):
        flags.MODULE = "tests.train.workers.fails"
        super().__call__()
