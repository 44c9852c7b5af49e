"""A new SQLite store without waiting for MLflow's migrations.

The empty database is built once for each MLflow version, in memory where there is a RAM disk, without
fsync; then it is copied. ``python -m runner.store.template FILE`` does it from another process.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from runner.places import cache_dir
from runner.store.trouble import is_new

RAM_DISK = Path("/dev/shm")


def ensure(database: Path) -> None:
    """Create ``database`` as an empty store of the installed MLflow's schema, unless it is there.

    Safe between processes: the file appears whole, under its final name, once.
    """
    if not is_new(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        if is_new(database):
            _copy(_template(), database)


def _template() -> Path:
    template = cache_dir() / "store" / f"mlflow-{version('mlflow')}.db"
    if not template.exists():
        template.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{template}.lock"):
            if not template.exists():
                with tempfile.TemporaryDirectory(dir=RAM_DISK if RAM_DISK.is_dir() else None) as folder:
                    _copy(_build(Path(folder) / "mlflow.db"), template)
    return template


def _build(database: Path) -> Path:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    def without_fsync(connection: object, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", without_fsync)
    try:
        _initialize_tables(engine)
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", without_fsync)
        engine.dispose()
    return database


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    os.replace(partial, target)


if __name__ == "__main__":
    ensure(Path(sys.argv[1]))
