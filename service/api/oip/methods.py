"""Every method of inference.GRPCInferenceService by its full name, those that are not offered included."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from protos.inference import messages as pb
from service.api.call import Call
from service.api.dispatch import Handler, StreamMethod, off_thread
from service.api.limits import RequestLimits
from service.api.oip.control import ControlMethods
from service.api.oip.infer import InferMethod, stream_error
from service.api.oip.metadata import MetadataMethods
from service.api.oip.parameters import NO_SHARED_MEMORY
from service.api.oip.repository import RepositoryMethods
from service.control import Control
from service.errors import UnimplementedError
from service.peers import Peers
from service.repository import Repository
from service.scheduler import Scheduler

SERVICE = pb.SERVICE.full_name

_CONTROL = "models can't be loaded or unloaded by callers here: the setting model_control is off"
_SETTINGS = "settings can't be read or changed by callers; they are flags of the server"
CONTROL_METHODS = ("RepositoryModelLoad", "RepositoryModelUnload")
"""What changes the server rather than ask it; off by default."""
_NOT_OFFERED = {
    "TraceSetting": _SETTINGS,
    "LogSettings": _SETTINGS,
    **{
        f"{kind}SharedMemory{verb}": NO_SHARED_MEMORY
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    },
}


class InferenceService:
    """The methods over one engine.

    Args:
        control: how callers may load and unload models; None if they may not.

    Attributes:
        unary: the handlers of the methods with one answer.
        streams: the methods with streams.
    """

    def __init__(
        self,
        repository: Repository,
        scheduler: Scheduler,
        workers: Executor,
        limits: RequestLimits,
        is_ready: Callable[[], bool],
        peers: Peers,
        control: Control | None = None,
    ) -> None:
        infer = InferMethod(repository, scheduler, workers, limits)
        metadata = MetadataMethods(repository, is_ready, limits.max_images)
        models = RepositoryMethods(repository, peers)
        refusals = dict.fromkeys(CONTROL_METHODS, _not_offered(_CONTROL))
        self.unary: dict[str, Handler] = {
            f"/{SERVICE}/{method}": handler
            for method, handler in {
                "ServerLive": metadata.server_live,
                "ServerReady": metadata.server_ready,
                "ServerMetadata": metadata.server_metadata,
                "ModelReady": metadata.model_ready,
                "ModelMetadata": metadata.model_metadata,
                "ModelConfig": off_thread(metadata.model_config, workers),
                "ModelStatistics": off_thread(models.statistics, workers),
                "RepositoryIndex": off_thread(models.index, workers),
                "ModelInfer": infer.unary,
                **(ControlMethods(control).handlers if control else refusals),
                **{method: _not_offered(reason) for method, reason in _NOT_OFFERED.items()},
            }.items()
        }
        self.streams = {f"/{SERVICE}/ModelStreamInfer": StreamMethod(infer.streamed, stream_error)}


def _not_offered(reason: str) -> Handler:
    def refuse(_request: bytes, _call: Call) -> None:
        raise UnimplementedError(reason)

    return refuse
