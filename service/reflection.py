"""Server reflection of every service, wherever the descriptors of its messages live."""

from __future__ import annotations

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from protos.featurelens.v1 import classifier_pb2
from protos.inference import messages as inference


def add_reflection(server: grpc.aio.Server) -> None:
    """Let clients ask the server for its services and their messages."""
    pool = (
        DescriptorPool()
    )  # the default pool can't hold package `inference`: see protos/inference/messages.py
    files = [module.DESCRIPTOR for module in (classifier_pb2, health_pb2, reflection_pb2)]
    for file in files:
        pool.AddSerializedFile(file.serialized_pb)
    for proto in inference.FILES:
        pool.Add(proto)
    services = [name.full_name for file in files for name in file.services_by_name.values()]
    reflection.enable_server_reflection([*services, inference.SERVICE.full_name], server, pool=pool)
