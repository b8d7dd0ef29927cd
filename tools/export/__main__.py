"""Export a registered model, and prove that the export is what was registered.

    python -m tools.export model=@champion format=merged               # of the model in params.yaml
    python -m tools.export model=tuneproof-food/3 format=adapter to=exports/food
    python -m tools.export model=tuneproof-food@champion format=gguf quantization=q8_0
    HF_TOKEN=… python -m tools.export model=tuneproof-food@champion format=merged push=owner/name

The export gets its name only after everything was proved, so no folder has a part of one. What was
proved is printed and written to proof.json. docs/export.md says how each format is served.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from stages.core.config.schema import read_params
from stages.core.config.words import read_words
from stages.core.entrypoint import set_up_process, tool_main
from stages.core.storage.files import atomic_directory
from tools.export.folder import check_folder, describe
from tools.export.options import ExportOptions
from tools.export.proof import Proof, make_table
from tools.export.push import check_token, push
from tools.export.source import Source, open_source

Exporter = Callable[[Source, Path, ExportOptions], list[Proof]]


@tool_main("export")
def main() -> None:
    """Export a version, print what was proved, and upload it if that is asked for."""
    options = read_words(ExportOptions, "python -m tools.export", __doc__)
    set_up_process()
    logging.getLogger("tools").setLevel(logging.INFO)
    if options.push:
        check_token()
    source = open_source(options.model, read_params())
    to = options.get_folder(source.version.name, source.version.number)
    proofs = export(source, options, to)
    console = Console(highlight=False, markup=False, width=max(110, Console().width))
    console.print(make_table(proofs))
    sys.stdout.write(f"Exported {source.version.uri} to {to}\n")
    if options.push:
        message = f"Export {source.version.name} version {source.version.number}"
        address = push(to, options.push, options.private, message)
        sys.stdout.write(f"Uploaded to {address}\n")


def export(source: Source, options: ExportOptions, to: Path) -> list[Proof]:
    """Export a version into a folder, which is replaced only if everything was proved.

    Raises:
        UserError: The version cannot be exported so, or a proof fails.
    """
    check_folder(to)
    run = get_exporter(options.format)
    with atomic_directory(to) as folder:
        proofs = run(source, folder, options)
        describe(folder, to, source, options, proofs)
    return proofs


def get_exporter(kind: str) -> Exporter:
    """Return the function that writes a format into an empty folder."""
    if kind == "gguf":
        from tools.export.gguf import export_gguf

        return export_gguf
    if kind == "adapter":
        from tools.export.adapter import export_adapter

        return lambda source, folder, _: export_adapter(source, folder)
    from tools.export.merged import export_merged

    return lambda source, folder, _: export_merged(source, folder)


if __name__ == "__main__":
    main()
