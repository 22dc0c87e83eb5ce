"""The messages of both services, made by protobuf's runtime from what is written here: no generated code.

They live in a pool of their own, so that a handler may import generated modules of the same messages.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CALL_SERVICE = "chalk.runtime.v1.RemoteCallService"
HEALTH_SERVICE = "grpc.health.v1.Health"

_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _BYTES, _ENUM = _Field.TYPE_STRING, _Field.TYPE_BYTES, _Field.TYPE_ENUM

POOL = descriptor_pool.DescriptorPool()


Messages: TypeAlias = dict[str, list[tuple[str, int, "str | None"]]]
"""Name → fields: name, kind, and the type's name where the kind alone does not tell it."""


def _file(name: str, package: str, messages: Messages) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    for message, fields in messages.items():
        made = file.message_type.add(name=message)
        for number, (field, kind, type_name) in enumerate(fields, start=1):
            made.field.add(name=field, number=number, type=kind, label=_Field.LABEL_OPTIONAL, type_name=type_name)
    return file


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


def _remote_call() -> None:
    messages: Messages = {
        "CallFunctionRequest": [("name", _STRING, None), ("feather_stream", _BYTES, None)],
        "CallFunctionResponse": [("feather_stream", _BYTES, None)],
    }
    file = _file("chalk/runtime/v1/remote_python_call.proto", "chalk.runtime.v1", messages)
    method = file.service.add(name="RemoteCallService").method.add(name="CallFunction")
    method.input_type, method.output_type = ".chalk.runtime.v1.CallFunctionRequest", ".chalk.runtime.v1.CallFunctionResponse"
    method.client_streaming = method.server_streaming = True
    POOL.Add(file)


def _health() -> None:
    kind = ".grpc.health.v1.HealthCheckResponse.ServingStatus"
    messages: Messages = {
        "HealthCheckRequest": [("service", _STRING, None)],
        "HealthCheckResponse": [("status", _ENUM, kind)],
    }
    file = _file("grpc/health/v1/health.proto", "grpc.health.v1", messages)
    status = file.message_type[1].enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        status.value.add(name=name, number=number)
    service = file.service.add(name="Health")
    for name, streams in (("Check", False), ("Watch", True)):
        method = service.method.add(name=name, server_streaming=streams)
        method.input_type, method.output_type = ".grpc.health.v1.HealthCheckRequest", ".grpc.health.v1.HealthCheckResponse"
    POOL.Add(file)


_remote_call()
_health()

CallFunctionRequest = _class("chalk.runtime.v1.CallFunctionRequest")
CallFunctionResponse = _class("chalk.runtime.v1.CallFunctionResponse")
HealthCheckRequest = _class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _class("grpc.health.v1.HealthCheckResponse")
SERVING, NOT_SERVING = 1, 2
