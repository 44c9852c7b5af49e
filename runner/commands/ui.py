"""``runner ui``: MLflow's own interface on this store."""

from __future__ import annotations

import os
import subprocess
import sys

from runner.commands import options
from runner.errors import BadInput
from runner.store.records import sqlite_path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(arguments: list[str]) -> int:
    """Start ``mlflow ui`` and stay until it ends; a tracking server has its own, and its address is told."""
    parser = options.parser("ui", "MLflow's own interface on this store (Ctrl-C ends it)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--public", action="store_true", help="allow an address that others can reach; it has no login")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    if parsed.host not in LOOPBACK and not parsed.public:
        raise BadInput(f"--host {parsed.host} can be reached by others and has no login; add --public if that is meant")
    uri = options.records(parsed).uri
    if uri.startswith(("http://", "https://")):
        print(f"{uri}  (the server's own)")
        return 0
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise BadInput(f"no store at {database} yet; `runner method=forwardgnn dataset=cora` makes one")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", parsed.host, "--port", str(parsed.port)]
    print(f"http://{parsed.host}:{parsed.port}  ({uri})", flush=True)
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}
    try:
        return subprocess.run(command, check=False, env=environment).returncode
    except KeyboardInterrupt:
        return 0
