"""Generates the message classes from proto/processed_frame.proto, for each protobuf supported.

Code of one major version of protobuf is good for that version and the next one. So there are two:
`v4` for the runtimes 4.21 to 5.x and `v6` for 6.30 to 7.x. Each is written by the protoc of a
pinned grpcio-tools, and differs from its output as `adapted` says: the messages live in a pool of
their own, so that a program may import classes generated from another schema as well.

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
    """What the protoc of this environment makes of the schema: name -> text."""
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
    """The messages leave the process-wide pool, where two schemas of one name collide.

    Generic types without arguments, which mypy --strict refuses, get them.
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
