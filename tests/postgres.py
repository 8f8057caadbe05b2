"""A PostgreSQL server on a free loopback port, for tests of what may be kept in one."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from visor.serving.ports import free_ports

START_S = 60.0
USER = "visor"


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int

    def make_database(self) -> str:
        """Make an empty database; its URL as SQLAlchemy takes it."""
        name = f"reviews_{secrets.token_hex(6)}"
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, dbname="postgres")
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"


def find() -> Path | None:
    """Find PostgreSQL's programs: where Debian puts them, else on the PATH."""
    of_debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    return of_debian[-1].parent if of_debian else Path(on_path).parent if on_path else None


@contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """A server, for as long as the block lasts. As root it runs as the user that Debian has for it: it refuses root."""
    user = "postgres" if os.getuid() == 0 else None
    # Not below pytest's folder, which is its owner's alone.
    folder = Path(tempfile.mkdtemp(prefix="visor-postgres-"))
    if user:
        shutil.chown(folder, user)
    data, [port] = folder / "data", free_ports(1)
    try:
        command = [str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "--no-sync", "--no-instructions"]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, env=environment)
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *flags], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait(port, server, folder / "log")
            yield Postgres(port)
        finally:
            server.terminate()  # its clients of these tests are gone, or are to be
            try:
                server.wait(START_S / 4)
            except subprocess.TimeoutExpired:
                server.send_signal(2)  # fast: whoever is still connected is sent away
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", connect_timeout=2).close()
        except psycopg2.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgres]:
    """A PostgreSQL server. Where there is none its tests are left out, but in CI, which installs one."""
    programs = find()
    if programs is None and not os.environ.get("CI"):
        pytest.skip("no PostgreSQL; `make postgres` installs one")
    assert programs, "CI has a PostgreSQL: `make postgres`"
    with postgres_server(programs) as running:
        yield running
