"""MLflow's client, imported only when it is needed, and its errors as one line."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from runner.store import template, trouble
from runner.store.records import sqlite_path

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
# A pooled connection goes on writing into a file that was deleted meanwhile, and nobody would notice.
os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def ensure(uri: str) -> None:
    """Make a new SQLite store; check that one that is there can be used. Nothing is written, no server is asked.

    Raises:
        StoreUnavailable: the SQLite file is not a store of the installed MLflow's schema.
        OSError: the SQLite file can't be made.
    """
    path = sqlite_path(uri)
    if path is not None:
        template.ensure(path)
        trouble.demand_schema(uri, path)


def connect(uri: str) -> MlflowClient:
    """A client for the store at ``uri``; a new SQLite store is created on the way.

    Raises:
        StoreUnavailable: the SQLite file is not a store of the installed MLflow's schema.
        OSError: the SQLite file can't be made.
    """
    path = sqlite_path(uri)
    if path is not None:
        template.ensure(path)
    return _client(uri)


@lru_cache(maxsize=4)
def _client(uri: str) -> MlflowClient:
    path = sqlite_path(uri)
    if path is not None:
        ensure(uri)
        uri = f"sqlite:///{path}?timeout={trouble.wait_seconds(uri):g}"
        _wait_as_long_as_asked()
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised as well, and told
    return MlflowClient(tracking_uri=uri)


@cache
def _wait_as_long_as_asked() -> None:
    """MLflow sets SQLite's wait to 20 s in every session, whatever the URI says; make it what the URI says."""
    import sqlalchemy

    def own_wait(connection: Any, _: object, statement: str, parameters: object, *__: object) -> tuple[str, object]:
        if statement.startswith("PRAGMA busy_timeout") and (seconds := connection.engine.url.query.get("timeout")):
            statement = f"PRAGMA busy_timeout = {1000 * float(seconds):.0f}"
        return statement, parameters

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", own_wait, retval=True)


@contextmanager
def unavailable(uri: str) -> Iterator[None]:
    """Turn what MLflow raises where a store can't be used into ``StoreUnavailable``."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (
        MlflowException,
        sqlalchemy.exc.SQLAlchemyError,
        requests.RequestException,
        sqlite3.Error,
        OSError,
    ) as error:
        raise trouble.unavailable(uri, error) from error
