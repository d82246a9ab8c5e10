"""A pytest plugin for asyncpg's suite when it makes clusters of its own: a gate before each of them.

$SUITE_GATE is the querygate binary; empty for direct connections, which then take the same way (TCP) to be comparable.
$SUITE_PGBIN is the directory of Postgres's programs; as root, they are run as user postgres.
"""

import atexit
import os
import pathlib
import subprocess
import tempfile
import time

from asyncpg import cluster

GATE = os.environ["SUITE_GATE"]
# Removed at exit.
TEMPORARY = tempfile.TemporaryDirectory(prefix="querygate-suite-")
DIRECTORY = pathlib.Path(TEMPORARY.name)

CONFIG = """
[listen]
address = "127.0.0.1:0"
{tls}
[upstream]
port = {port}
[limits]
allow_replication = true
allow_function_call = true
[admin]
address = "none"
[[rule]]
name = "all"
action = "allow"
"""
TLS = """
[listen.tls]
mode = "prefer"
certificate = "{ssl_cert_file}"
key = "{ssl_key_file}"
"""
# The suite makes data directories and writes into them.
AS_POSTGRES = """#!/bin/bash
previous=
for argument; do
    [ "$previous" != -D ] || [ ! -d "$argument" ] || chown -R postgres "$argument"
    previous=$argument
done
exec setpriv --reuid=postgres --regid=postgres --clear-groups {program} "$@"
"""


class Gates:
    """The gates by the port of the server behind them."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}

    def before(self, port: int, settings: dict[str, str]) -> int:
        """The port of the gate before the server on `port`, which is started with `settings`."""
        if port not in self.ports:
            self.ports[port] = self.start(port, settings)
        return self.ports[port]

    def behind(self, port: int) -> int:
        """The server's port when `port` is a gate's; else `port`."""
        return next((server for server, gate in self.ports.items() if gate == port), port)

    @staticmethod
    def start(port: int, settings: dict[str, str]) -> int:
        config, log = DIRECTORY / f"{port}.toml", DIRECTORY / f"{port}.log"
        tls = TLS.format(**settings) if settings.get("ssl") == "on" else ""
        config.write_text(CONFIG.format(tls=tls, port=port))
        with log.open("w") as file:
            process = subprocess.Popen([GATE, "serve", "--config", config], stderr=file)
        atexit.register(process.kill)
        while " listening on 127.0.0.1:" not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"the gate did not start: {log.read_text()}")
            time.sleep(0.05)
        return int(log.read_text().split(" listening on 127.0.0.1:")[1].split()[0])


gates = Gates()
plain_start = cluster.Cluster.start
plain_spec = cluster.Cluster.get_connection_spec


def start(self, wait=60, *, server_settings=None, **options):
    server_settings = server_settings or {}
    self.suite_settings = server_settings
    # A test that starts its server again asks for the port that its clients know.
    if str(options.get("port", "")).isdigit():
        options["port"] = gates.behind(int(options["port"]))
    return plain_start(self, wait, server_settings=server_settings, **options)


def get_connection_spec(self):
    spec = dict(plain_spec(self))
    if spec["host"].startswith("/"):
        spec["host"] = "127.0.0.1"
    if GATE:
        # As asyncpg has it from the server's pid file: text.
        spec["port"] = str(gates.before(int(spec["port"]), getattr(self, "suite_settings", {})))
    return spec


def programs() -> str:
    """The directory of Postgres's programs."""
    real = pathlib.Path(os.environ["SUITE_PGBIN"])
    if os.geteuid() != 0:
        return str(real)
    for name in ["pg_ctl", "postgres", "initdb", "pg_basebackup", "pg_resetwal"]:
        wrapper = DIRECTORY / name
        wrapper.write_text(AS_POSTGRES.format(program=real / name))
        wrapper.chmod(0o755)
    DIRECTORY.chmod(0o755)
    return str(DIRECTORY)


cluster.Cluster.start = start
cluster.Cluster.get_connection_spec = get_connection_spec
os.environ["PGINSTALLATION"] = programs()
