"""The process in which the server of llama.cpp runs. It imports nothing else of Tuneproof.

It prints the address of the server, and ends when its standard input is closed.
"""

import argparse
import sys


def main() -> None:
    """Start the server, and wait for the end."""
    import xllamacpp

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="the GGUF file")
    parser.add_argument(
        "--context", type=int, required=True, help="tokens of a prompt and its answer"
    )
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True, help="answers at the same time")
    given = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.file
    params.port = 0  # any free one
    params.n_parallel = given.slots
    params.n_ctx = given.context * given.slots
    params.n_gpu_layers = 0  # the reference is computed on a CPU too
    params.cpuparams.n_threads = given.threads
    params.cpuparams_batch.n_threads = given.threads
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
