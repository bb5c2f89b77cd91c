"""Generates the message classes from proto/processed_frame.proto, for each supported protobuf.

Code generated for one major version of protobuf works with that version and the next one. So there are
two: `v4` for the runtimes 4.21 to 5.x and `v6` for 6.30 to 7.x. The protoc of a pinned grpcio-tools
writes each, and `adapted` changes its output: the messages are in a separate descriptor pool, so that a
program can also import classes generated from another schema.

    python generate.py v4    # in an environment with the grpcio-tools that TOOLS names
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
from importlib import metadata

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = HERE.parent / "proto" / "processed_frame.proto"
PACKAGE = HERE / "src" / "framepress" / "_pb"
TOOLS = {"v4": "1.62.3", "v6": "1.72.1"}
NAMES = ("processed_frame_pb2.py", "processed_frame_pb2.pyi")


def generate(schema: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """Runs this environment's protoc on the schema; returns name -> text."""
    from grpc_tools import protoc

    arguments = [
        "protoc",
        f"-I{schema.parent}",
        f"--python_out={folder}",
        f"--pyi_out={folder}",
        schema.name,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("the schema does not compile")
    return {name: adapted((folder / name).read_text(encoding="utf-8")) for name in NAMES}


def adapted(text: str) -> str:
    """Moves the messages out of the process-wide pool, where two schemas of one name collide.

    Adds arguments to bare generic types, which mypy --strict refuses.
    """
    text = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
    return text.replace("_Mapping]", "_Mapping[str, object]]")


def main() -> None:
    version = sys.argv[1] if len(sys.argv) == 2 else ""
    if version not in TOOLS:
        sys.exit(f"usage: generate.py {' | '.join(TOOLS)}")
    found = metadata.version("grpcio-tools")
    if found != TOOLS[version]:
        sys.exit(f"{version} is made with grpcio-tools {TOOLS[version]}, this is {found}")
    folder = PACKAGE / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").touch()
    with tempfile.TemporaryDirectory() as made:
        for name, text in generate(SCHEMA, pathlib.Path(made)).items():
            (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
