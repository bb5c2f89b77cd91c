"""The package itself: types, style, generated code, the distributions."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from typing import Any

import google.protobuf
import pytest
from conftest import PACKAGE, ROOT, Engine, Server

sys.path.insert(0, str(PACKAGE))
import framepress
import generate
from framepress import _pb


def run(*command: str, cwd: pathlib.Path = PACKAGE, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mypy_is_content(tmp_path: pathlib.Path) -> None:
    run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path))


def test_ruff_is_content() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")


def test_no_file_is_too_long() -> None:
    for path in (PACKAGE / "src").rglob("*.py"):
        if "_pb2" not in path.name:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path


def test_generated_code_says_what_the_schema_says(tmp_path: pathlib.Path) -> None:
    """Compares, for any protoc, the descriptor inside with that of proto/processed_frame.proto."""
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    out = tmp_path / "set"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"--descriptor_set_out={out}", generate.SCHEMA.name]
    assert protoc.main(arguments) == 0
    (wanted,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    for version in generate.TOOLS:
        text = (generate.PACKAGE / version / "processed_frame_pb2.py").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith("DESCRIPTOR = "))
        assert "DescriptorPool().AddSerializedFile(" in line
        literal = line.partition("AddSerializedFile(")[2].rstrip(")")
        found = descriptor_pb2.FileDescriptorProto.FromString(eval(literal))
        for proto in (found, wanted):
            for message in proto.message_type:
                for field in message.field:
                    field.ClearField("json_name")
        assert found == wanted, f"python generate.py {version}"


@pytest.mark.parametrize("version", generate.TOOLS)
def test_generated_code_is_what_its_protoc_writes(version: str) -> None:
    tool = generate.TOOLS[version]
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        done = subprocess.run(
            [*install, "--target", folder, f"grpcio-tools=={tool}", "setuptools<80"],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"skipped: no grpcio-tools {tool} for this Python: {done.stderr[-200:]}")
        program = """
import json, pathlib, sys, tempfile, generate
with tempfile.TemporaryDirectory() as made:
    print(json.dumps(generate.generate(generate.SCHEMA, pathlib.Path(made))))
"""
        import json

        made: dict[str, str] = json.loads(
            run(sys.executable, "-W", "ignore", "-c", program, PYTHONPATH=f"{folder}:{PACKAGE}")
        )
    for name, text in made.items():
        kept = (generate.PACKAGE / version / name).read_text(encoding="utf-8")
        assert kept == text, f"python generate.py {version}"


#: For each kind of runtime, the lowest and the highest version.
RUNTIMES = ["4.21.1", "4.25.9", "5.26.0", "5.29.5", "6.30.0", "6.33.6"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_supported_protobuf_works(runtime: str) -> None:
    program = """
import google.protobuf
from framepress import _pb
frame = _pb.ProcessedFrame(frame_id="a", timestamp=1.5, processing_stage=5)
frame.original_image.row_stride = 7
frame.roi_features.add().roi_id = "x"
again = _pb.ProcessedFrame.FromString(frame.SerializeToString())
assert again == frame and again.original_image.row_stride == 7
stage = _pb.ProcessingStage.Name(again.processing_stage)
print(google.protobuf.__version__, stage, _pb.schema.__name__)
"""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        done = subprocess.run(
            [*install, "--no-deps", "--target", folder, f"protobuf=={runtime}"],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"skipped: no protobuf {runtime} for this Python: {done.stderr[-200:]}")
        for implementation in ("upb", "python"):
            out = run(
                sys.executable,
                "-c",
                program,
                PYTHONPATH=f"{folder}:{PACKAGE / 'src'}",
                PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation,
            )
            wanted = "v6" if int(runtime.split(".")[0]) >= 6 else "v4"
            module = f"framepress._pb.{wanted}.processed_frame_pb2"
            assert out == f"{runtime} PROCESSING_STAGE_OUTPUT {module}\n"


def test_the_messages_are_those_of_this_protobuf() -> None:
    wanted = "v6" if int(google.protobuf.__version__.split(".")[0]) >= 6 else "v4"
    assert wanted in _pb.schema.__name__


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), ".")
    return folder


def test_the_wheel_has_everything_and_nothing_else(distributions: pathlib.Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(PACKAGE / "src"))
        for path in (PACKAGE / "src" / "framepress").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "framepress/py.typed" in sources
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert wheel.name == f"framepress-{framepress.__version__}-py3-none-any.whl"


def test_the_sdist_builds_the_same(distributions: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        # Python 3.12 warns without a filter, Python 3.9 does not support one.
        archive.extractall(tmp_path, **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    for name in ("pyproject.toml", "README.md", "src/framepress/py.typed", "PKG-INFO"):
        assert name in names
    (folder,) = tmp_path.iterdir()
    run(
        sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), cwd=folder
    )
    (made,) = tmp_path.glob("*.whl")
    (wheel,) = distributions.glob("*.whl")
    contents = [
        {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}
        for archive in (zipfile.ZipFile(made), zipfile.ZipFile(wheel))
    ]
    assert contents[0] == contents[1]


def test_it_installs_with_what_it_needs(distributions: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Without extras: everything imports, and a user's program passes mypy --strict."""
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    environment = {"PYTHONPATH": ""}
    out = run(
        python,
        "-c",
        "import framepress.compat, sys; print(framepress.__version__, 'xxhash' in sys.modules)",
        cwd=tmp_path,
        **environment,
    )
    assert out == f"{framepress.__version__} False\n"
    program = tmp_path / "program.py"
    program.write_text(
        "import framepress\n"
        "import numpy as np\n"
        "producer = framepress.Producer(full='oldest', ring=framepress.Ring('a'))\n"
        "entry: str | None = producer.send(np.zeros((2, 2, 3), np.uint8), camera_id='c')\n"
        "for result in framepress.Consumer(group='g'):\n"
        "    score: float = result.quality.score + result.image.shape[0]\n"
    )
    run(
        sys.executable,
        *("-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "mypy")),
        *("--python-executable", python, str(program)),
        cwd=tmp_path,
        **environment,
    )


#: Needs no extra: raw pixels in, raw results out.
ROUND_TRIP = """
import asyncio, sys, framepress, numpy
from framepress.compat import create_stream_processor
url = sys.argv[1]
image = numpy.arange(20 * 30 * 3, dtype=numpy.uint32).reshape(20, 30, 3).astype(numpy.uint8)

async def main():
    processor = await create_stream_processor({"redis_url": url})
    frame = {"camera_id": "c", "frame_id": "old", "image_array": image[:, :, ::-1].tolist()}
    await processor.enqueue_frame_for_processing(frame)
    await processor.stop()
    async with framepress.AsyncProducer(url) as producer:
        await asyncio.gather(*(producer.send(image, "c") for _ in range(5)))
    async with framepress.AsyncConsumer(url, group="a", idle_timeout=30) as results:
        for _ in range(7):
            assert ((await results.__anext__()).image == image).all()

with framepress.Producer(url, ring=framepress.Ring("r", directory=sys.argv[2])) as producer:
    producer.send(image, "c")
    print(producer.counts.sent, end=" ")
import redis
redis.Redis.from_url(url).flushall()
with framepress.Producer(url) as producer:
    producer.send(image, "c")
asyncio.run(main())
with framepress.Consumer(url, group="s", idle_timeout=30) as results:
    for number in range(7):
        assert (next(results).image == image).all()
print("done", redis.__version__)
"""


def round_trip(
    python: str, server: Server, folder: pathlib.Path, cwd: pathlib.Path, *packages: str
) -> str:
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--only-binary", ":all:", *packages, PYTHONPATH="")
    settings = {"REDIS_QUEUE__ENABLE_COMPRESSION": "false"}
    with Engine(server.url, **settings):
        out = run(python, "-c", ROUND_TRIP, server.url, str(folder), cwd=cwd, PYTHONPATH="")
    assert out.startswith("1 done "), out
    return out.split()[2]


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13", "3.14"])
def test_other_pythons_run_it(
    version: str,
    distributions: pathlib.Path,
    server: Server,
    ring_folder: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    python = f"python{version}"
    found = shutil.which(python)
    if found is None or subprocess.run([found, "-c", "import venv, ensurepip"]).returncode != 0:
        pytest.skip(f"skipped: there is no {python}")
    run(found, "-m", "venv", str(tmp_path / "venv"))
    (wheel,) = distributions.glob("*.whl")
    round_trip(str(tmp_path / "venv/bin/python"), server, ring_folder, tmp_path, str(wheel))


@pytest.mark.parametrize("version", ["4.5.5", "4.6.0", "5.0.0", "5.2.1", "6.0.0", "7.0.0"])
def test_every_supported_redis_py_works(
    version: str,
    distributions: pathlib.Path,
    server: Server,
    ring_folder: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    (wheel,) = distributions.glob("*.whl")
    python = str(tmp_path / "venv/bin/python")
    found = round_trip(python, server, ring_folder, tmp_path, str(wheel), f"redis=={version}")
    assert found == version


def test_versions_agree() -> None:
    text = (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{framepress.__version__}"' in text
