"""Sluice: an async batching function queue.

Declare a function with :func:`function`, deploy its file with ``sluice deploy FILE`` or :func:`deploy`, and call it
through :class:`Remote`. Names load when they are first used, so that a handler process pays for none of the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.catalog import CatalogCallError, catalog_call
    from sluice.client import Client
    from sluice.context import CallContext, Context
    from sluice.declaration import Function, function
    from sluice.deployment import deploy
    from sluice.engines import EngineSelector, PredictorVariable, ReadinessProbe
    from sluice.errors import (
        CallFailedError,
        ChunkFailedError,
        ConnectionError,
        DeclarationError,
        DeploymentError,
        RowError,
        ServerError,
        SluiceError,
        TimeoutError,
    )
    from sluice.evaluation import Evaluation, EvaluationError, evaluate
    from sluice.handle import AsyncFunctionCallHandle
    from sluice.image import Image
    from sluice.models.deployment import AutoScalingSpec, InferenceStore, ScalingGroupResourceRequest
    from sluice.models.frame import DataFrame
    from sluice.models.handler import ModelHandler, model_handler
    from sluice.models.importing import import_model
    from sluice.models.records import Model, ModelVersion, ScalingGroup
    from sluice.options import RetryPolicy
    from sluice.query import sql
    from sluice.query_rewrite import QueryError
    from sluice.remote import Remote, RemoteFunction

__version__ = "0.1.0"

_HOMES = {
    "AsyncFunctionCallHandle": "handle",
    "AutoScalingSpec": "models.deployment",
    "CallContext": "context",
    "CallFailedError": "errors",
    "CatalogCallError": "catalog",
    "ChunkFailedError": "errors",
    "Client": "client",
    "ConnectionError": "errors",
    "Context": "context",
    "DataFrame": "models.frame",
    "DeclarationError": "errors",
    "DeploymentError": "errors",
    "EngineSelector": "engines",
    "Evaluation": "evaluation",
    "EvaluationError": "evaluation",
    "Function": "declaration",
    "Image": "image",
    "InferenceStore": "models.deployment",
    "Model": "models.records",
    "ModelHandler": "models.handler",
    "ModelVersion": "models.records",
    "PredictorVariable": "engines",
    "QueryError": "query_rewrite",
    "ReadinessProbe": "engines",
    "Remote": "remote",
    "RemoteFunction": "remote",
    "RetryPolicy": "options",
    "RowError": "errors",
    "ScalingGroup": "models.records",
    "ScalingGroupResourceRequest": "models.deployment",
    "ServerError": "errors",
    "SluiceError": "errors",
    "TimeoutError": "errors",
    "catalog_call": "catalog",
    "deploy": "deployment",
    "evaluate": "evaluation",
    "function": "declaration",
    "import_model": "models.importing",
    "model_handler": "models.handler",
    "sql": "query",
}

__all__ = [
    "AsyncFunctionCallHandle",
    "AutoScalingSpec",
    "CallContext",
    "CallFailedError",
    "CatalogCallError",
    "ChunkFailedError",
    "Client",
    "ConnectionError",
    "Context",
    "DataFrame",
    "DeclarationError",
    "DeploymentError",
    "EngineSelector",
    "Evaluation",
    "EvaluationError",
    "Function",
    "Image",
    "InferenceStore",
    "Model",
    "ModelHandler",
    "ModelVersion",
    "PredictorVariable",
    "QueryError",
    "ReadinessProbe",
    "Remote",
    "RemoteFunction",
    "RetryPolicy",
    "RowError",
    "ScalingGroup",
    "ScalingGroupResourceRequest",
    "ServerError",
    "SluiceError",
    "TimeoutError",
    "catalog_call",
    "deploy",
    "evaluate",
    "function",
    "import_model",
    "model_handler",
    "sql",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sluice' has no attribute {name!r}")
    value = getattr(import_module(f"sluice.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
