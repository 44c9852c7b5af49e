"""What the fork server does before it forks: import what commands and tests need, and compose once. No threads."""

import importlib

import torch

from runner import cli, compose, environment

MODULES = (
    *(f"runner.commands.{'import_' if name == 'import' else name}" for name in cli.COMMANDS),
    *("runner.commands.make", "runner.sweep", "runner.jobs", "runner.fingerprint", "runner.store.transfer"),
    *("runner.datasets.own", "runner.methods.graph.backprop", "runner.methods.graph.forwardgnn.method"),
    *("alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite", "mlflow.store.tracking.sqlalchemy_store"),
    *("mlflow.store.tracking.sqlalchemy_workspace_store", "mlflow.store.artifact.local_artifact_repo"),
    *("tests.conftest", "tests.faults.conftest"),
)
for module in MODULES:
    importlib.import_module(module)
torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # imports torch's compiler, for seconds
compose.compose(["method=backprop", "dataset=cora"])
environment.describe()
