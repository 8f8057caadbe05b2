"""Nothing that visor imports looks up a host of its own accord, or leaves a number in the home by which users are told apart."""

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.running import ROOT, Workspace

ASKED = """
import sys, time
hosts = []
sys.addaudithook(lambda event, args: hosts.append(args[0]) if event in ("socket.getaddrinfo", "socket.gethostbyname") else None)
{what}
time.sleep(1)  # its senders are threads
assert {loaded!r} in sys.modules
print([host for host in hosts if host not in ("localhost", "127.0.0.1")])
"""
LOADING = "import visor; visor.load({archive!r}, {key!r})"
EXPORTING = "from training import settings; settings.prepare_nncf(); import training.packing.export; import nncf"


def asked(what: str, loaded: str, home: Path) -> str:
    code = ASKED.format(what=what, loaded=loaded)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_loading_an_archive_asks_for_no_host(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    assert asked(LOADING.format(archive=str(archive), key=str(workspace.public_key)), "openvino", tmp_path) == "[]"
    assert not (tmp_path / "intel").exists()


def test_exporting_asks_for_no_host(tmp_path: Path) -> None:
    assert asked(EXPORTING, "nncf", tmp_path) == "[]"
    assert not (tmp_path / "intel").exists()


def test_openvino_alone_leaves_such_a_number(tmp_path: Path) -> None:
    """So that the tests above do not pass for another reason. Without a way to look up a host, nothing leaves here."""
    asked("import socket; socket.getaddrinfo = None; import openvino", "openvino", tmp_path)
    assert (tmp_path / "intel").exists()
