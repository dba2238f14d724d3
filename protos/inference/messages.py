"""The messages of package `inference`, in a descriptor pool of their own.

Clients of other servers bring a package of the same name, and the default pool takes a name only once. So
nothing but descriptors is generated (`make protos`), and the classes are made of them here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClassesForFiles

_PREFIX = "inference."

FILES = FileDescriptorSet.FromString(Path(__file__).with_name("descriptors.binpb").read_bytes()).file
_pool = DescriptorPool()
for _file in FILES:
    _pool.Add(_file)
SERVICE = _pool.FindServiceByName(f"{_PREFIX}GRPCInferenceService")

if TYPE_CHECKING:
    from protos.inference.grpc_service_pb2 import *  # noqa: F403 - the same names as at run time
    from protos.inference.model_config_pb2 import *  # noqa: F403
else:
    _classes = GetMessageClassesForFiles([file.name for file in FILES], _pool)
    globals().update({name.removeprefix(_PREFIX): message for name, message in _classes.items()})
    DataType = EnumTypeWrapper(_pool.FindEnumTypeByName(f"{_PREFIX}DataType"))
