"""RepositoryModelLoad and RepositoryModelUnload: models come and go on request, by name only."""

from __future__ import annotations

from protos.inference import messages as pb
from service.api.call import Call
from service.api.dispatch import Handler
from service.api.oip.requests import parse
from service.control import Control
from service.errors import InvalidRequestError, ServiceError
from service.live import Done


class ControlMethods:
    """Hands requests to the thread that changes models, and answers when it is done.

    Attributes:
        handlers: by the names of the methods.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self.handlers: dict[str, Handler] = {
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }

    def load(self, data: bytes, call: Call) -> None:
        """Answer with an encoded RepositoryModelLoadResponse, once the model answers calls."""
        request = parse(pb.RepositoryModelLoadRequest, data)
        if request.parameters:
            raise InvalidRequestError(
                "a model is loaded of the repository's files, not of the request's; leave the parameters out"
            )
        name = _name(request.repository_name, request.model_name)
        response = pb.RepositoryModelLoadResponse().SerializeToString()
        self._control.load(name, _answer(call, response), call.abandoned)

    def unload(self, data: bytes, call: Call) -> None:
        """Answer with an encoded RepositoryModelUnloadResponse, once the model takes no new calls."""
        request = parse(pb.RepositoryModelUnloadRequest, data)
        name = _name(request.repository_name, request.model_name)
        response = pb.RepositoryModelUnloadResponse().SerializeToString()
        self._control.unload(name, _answer(call, response), call.abandoned)


def _name(repository: str, model: str) -> str:
    if repository:
        raise InvalidRequestError("there is one repository, without a name; leave repository_name empty")
    if not model:
        raise InvalidRequestError("the request names no model")
    return model


def _answer(call: Call, response: bytes) -> Done:
    def done(error: ServiceError | None) -> None:
        if error is None:
            call.succeed(response)
        else:
            call.fail(error)

    return done
