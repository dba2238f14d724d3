"""Asks for more layers than one answer may hold: in portions, as large as the server allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from featurelens.cli.console import CommandError, progress
from featurelens.client import Client
from featurelens.errors import FeaturelensError
from featurelens.feature_maps import FeatureMaps
from featurelens.requests import ClassifyOptions
from featurelens.results import Array, Outcome, Prediction

TOO_MUCH = "RESOURCE_EXHAUSTED"
_MOST_AT_ONCE = 256  # what the server allows unless told otherwise
_IN_FLIGHT = 4  # answers with all feature maps are large
_Layers: TypeAlias = Mapping[str, str]


def classify_all(
    client: Client, images: Sequence[str], options: ClassifyOptions
) -> Iterator[tuple[Outcome, _Layers]]:
    """Classify images over one stream; from the first on whose answer would be too large, in portions.

    Yields each image's outcome in order, with the layers that can't be had, and why.

    Raises:
        FeaturelensError: the stream failed, or the model can't be described.
        CommandError: the model changed between two portions.
    """
    stream = client.classify_stream(images, in_flight=_IN_FLIGHT, **options)
    portions: Portions | None = None
    for image in images:
        if portions is None:
            outcome = _next(stream)
            if isinstance(outcome, Prediction) or outcome.code != TOO_MUCH or not options.get("layers"):
                yield outcome, {}
                continue
            stream.close()
            portions = Portions(client, options)
        try:
            yield portions.classify(image)
        except FeaturelensError as error:
            yield error, {}


def _next(stream: Iterator[Outcome]) -> Outcome:
    """Return the next outcome; an answer that is too large for the client ends its stream."""
    try:
        return next(stream)
    except FeaturelensError as error:
        if error.code != TOO_MUCH:
            raise
        return error


class Portions:
    """The layers of one model, in portions; all are asked of the version that described them.

    Portions that turn out too large are halved, and stay so for the images that follow.

    Args:
        client: of the server.
        options: what was asked; its layers are too many for one answer.

    Raises:
        FeaturelensError: the model can't be described.
    """

    def __init__(self, client: Client, options: ClassifyOptions) -> None:
        described = client.describe(
            options.get("model", ""), options.get("version", ""), layers=options.get("layers", ())
        )
        names = [layer.name for layer in described.layers]
        self._client = client
        self._options = options | ClassifyOptions(model=described.name, version=described.version)
        self._digest = described.digest
        self._asked = described.resolved
        self._count = len(names)
        self._portions = [names[at : at + _MOST_AT_ONCE] for at in range(0, len(names), _MOST_AT_ONCE)]
        self._refused: dict[str, str] = {}

    def classify(self, image: str) -> tuple[Prediction, _Layers]:
        """Classify an image; return also the layers that can't be had, and why.

        Raises:
            FeaturelensError: the image, or a portion for another reason than its size, was refused.
            CommandError: the model changed on the way.
        """
        first: Prediction | None = None
        maps: dict[str, Array] = {}
        with progress("layers") as bar:
            task = bar.add_task("", total=self._count, note=image)
            for prediction in self._answers(image):
                if prediction.digest != self._digest:
                    raise CommandError(
                        f"the file of {prediction.model} version {prediction.version} was replaced while its"
                        " layers were asked for; run the command again"
                    )
                first = first or prediction
                maps |= prediction.feature_maps
                bar.update(task, completed=len(maps))
        if first is None:
            raise FeaturelensError(TOO_MUCH, next(iter(self._refused.values()), "no layer can be returned"))
        return replace(first, feature_maps=FeatureMaps(maps, self._asked)), self._refused

    def _answers(self, image: str) -> Iterator[Prediction]:
        options = self._options.copy()
        done, fits = 0, False
        while done < len(self._portions):
            options["layers"] = names = self._portions[done]
            try:
                answer = self._client.classify(image, **options)
            except FeaturelensError as error:
                if error.code != TOO_MUCH:
                    raise
                if not fits:  # is it the layers that are too much? If the image is, this raises it
                    self._client.classify(image, **(options | ClassifyOptions(layers=())))
                    fits = True
                if len(names) == 1:
                    self._refused[names[0]] = error.message
                self._portions[done : done + 1] = _halves(names)
            else:
                yield answer
                done += 1
                fits = True
                options["return_input"] = False  # once is enough


def _halves(names: list[str]) -> list[list[str]]:
    middle = len(names) // 2
    return [names[:middle], names[middle:]] if middle else []
