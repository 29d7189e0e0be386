"""The committed message classes are what protoc makes of the committed .proto files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "workbench" / "node" / "proto"
NAMES = sorted(file.stem for file in PROTO.glob("*.proto"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proto")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "--proto_path=.",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            *(f"workbench/node/proto/{name}.proto" for name in NAMES),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder / "workbench" / "node" / "proto"


def test_there_is_something_to_compare():
    assert {"distribution", "rawkv", "workbench_v1"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["_pb2.py", "_pb2.pyi"])
def test_the_committed_code_is_what_protoc_generates(generated, name, ending):
    committed = (PROTO / f"{name}{ending}").read_text()
    assert committed == (generated / f"{name}{ending}").read_text()


def test_no_committed_code_lacks_its_proto_file():
    assert {file.name.removesuffix("_pb2.py") for file in PROTO.glob("*_pb2.py")} == set(NAMES)
