"""MLflow's client, imported only when it is needed, and its errors as one line."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.errors import StoreUnavailable
from runner.store import template
from runner.store.records import sqlite_path

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BUSY_SECONDS = 120
"""How long a writer waits for SQLite's lock: many processes may write to one file."""

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@lru_cache(maxsize=4)
def connect(uri: str) -> MlflowClient:
    """A client for the store at ``uri``; a new SQLite store is created on the way."""
    path = sqlite_path(uri)
    if path is not None:
        template.ensure(path)
        uri = f"sqlite:///{path}?timeout={BUSY_SECONDS}"
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


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
        reason = " ".join(str(error).split())[:200]
        raise StoreUnavailable(f"tracking store {uri} can't be used: {reason}") from error
