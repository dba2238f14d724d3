"""The optional config.toml beside a model: what a file that doesn't explain itself leaves open."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from service.batching_limits import BatchingLimits
from service.errors import ModelLoadError
from service.files_beside import Beside, read_beside
from service.heads import Kind
from service.imagenet import IMAGENET, imagenet_labels
from service.model_files import ModelFiles
from service.preprocessing import Preprocessing
from service.settings import MiB
from service.text_files import text_of

CONFIG_FILE = "config.toml"
_MOST_BYTES = 16 * MiB
_LINE_END = re.compile(r"\r\n?|\n")  # a label may hold what Unicode takes for others

VersionLabel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


class BatchingConfig(BaseModel):
    """Limits of this model, in place of the server's; named as Triton names them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: PositiveInt | None = None
    max_queue_size: PositiveInt | None = None
    max_queue_delay_us: NonNegativeInt | None = None

    def over(self, limits: BatchingLimits) -> BatchingLimits:
        """Return the limits with those replaced that are told here."""
        return replace(limits, **self.model_dump(exclude_none=True))


class VersionPolicy(BaseModel):
    """Which versions are served, told in one of three ways. By default, as in Triton, the newest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latest: PositiveInt | None = None
    """How many of the newest."""
    all: Literal[True] | None = None
    """All that there are."""
    list: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    """These."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) > 1:
            raise ValueError("keep one of latest, all and list")
        return self

    def wanted(self, versions: Sequence[int], refused: Collection[int] = ()) -> Sequence[int]:
        """Choose among the versions there are, ascending.

        The newest are the newest of those that weren't refused: if one can't be loaded, the one before it
        goes on serving over a restart.
        """
        if self.list is not None:
            return sorted(set(self.list))
        if self.all:
            return versions
        usable = [version for version in versions if version not in refused]
        return usable[-(self.latest or 1) :]


class ModelConfig(BaseModel):
    """What config.toml may say. Where it is silent, the model file's own metadata holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] | None = None
    """Names of the classes, in the order of the output; "imagenet-1k" stands for those of ImageNet."""
    labels_file: str | None = None
    """Instead of labels: a text file beside config.toml, one label a line."""
    output: str | None = None
    """The output that holds the classes; needed where the graph declares several."""
    head: Kind | None = None
    """What that output's values are. Unset: the graph tells, or a trial run shows it."""
    softmax: bool | None = None
    """As earlier releases had it: true is head = "logits", false takes the values for probabilities."""
    extra_inputs: Mapping[str, Any] = {}
    """Values of the inputs besides the picture, where they are the same for every picture."""
    preprocessing: Preprocessing | None = None
    """How images are made into the input."""
    refuse_non_finite: bool | None = None
    """Whether NaN and infinities in its inputs are refused. Unset: as the server says, if it classifies."""
    batching: BatchingConfig = BatchingConfig()
    """How much requests may queue and share runs."""
    preload_taps: tuple[tuple[str, ...], ...] = ()
    """Sets of layers that the server gets ready to return when it loads the model."""
    versions: VersionPolicy = VersionPolicy()
    """Which versions are served, besides those with a label."""
    version_labels: Mapping[VersionLabel, PositiveInt] = {}
    """Names that calls may use for versions. Calls that name no version get the one labelled stable."""
    cache: bool = True
    """Whether answers may be given again to equal requests, where the server has a response cache."""
    described: Mapping[int, Beside] = {}
    """Not for config.toml: what other files say, by version, 0 for those of the model's own folder."""

    @field_validator("labels", mode="before")
    @classmethod
    def _known_labels(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in IMAGENET:
            raise ValueError(f'expected a list of texts, or "{IMAGENET[0]}"')
        return imagenet_labels()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.head is not None and self.softmax not in (None, self.head is Kind.LOGITS):
            told = f"softmax = {str(self.softmax).lower()}"
            raise ValueError(f'head = "{self.head}" contradicts {told}; keep head')
        return self

    def wanted(self, versions: Sequence[int], refused: Collection[int] = ()) -> Sequence[int]:
        """Choose which of the versions there are to serve, ascending; see VersionPolicy."""
        return sorted({*self.versions.wanted(versions, refused), *self.version_labels.values()})

    def of_version(self, number: int) -> ModelConfig:
        """Return what is said of one version: what lies beside it is `described[0]`, and gives the labels."""
        nothing = Beside()
        beside = self.described.get(number, nothing).over(self.described.get(0, nothing))
        labels = self.labels if self.labels is not None else beside.labels
        return self.model_copy(update={"described": {0: beside}, "labels": labels})

    def loads_as(self, other: ModelConfig) -> bool:
        """Tell whether versions that are loaded are the same under another configuration."""
        chosen = {"versions": VersionPolicy(), "version_labels": {}}
        return self.model_copy(update=chosen) == other.model_copy(update=chosen)


def read_model_config(files: ModelFiles, name: str) -> ModelConfig:
    """Read the config.toml of a model; an empty one if there is none.

    Raises:
        ModelLoadError: it can't be read, or says what it may not.
    """
    config = _with_labels_from_file(_config(files, name), files, name)
    described = {number: beside for number, beside in _described(files, name) if beside != Beside()}
    return config.model_copy(update={"described": described}) if described else config


def _described(files: ModelFiles, name: str) -> Iterator[tuple[int, Beside]]:
    yield 0, read_beside(files, name)
    for number in files.versions(name):
        try:
            yield number, read_beside(files, name, str(number))
        except ModelLoadError as error:
            raise ModelLoadError(f"version {number}: {error}") from error


def _config(files: ModelFiles, name: str) -> ModelConfig:
    data = files.read(name, CONFIG_FILE, most_bytes=_MOST_BYTES)
    if data is None:
        return ModelConfig()
    try:
        text = text_of(data)
    except ValueError as error:
        raise ModelLoadError(f"{CONFIG_FILE} can't be read: {error}") from error
    return parsed_config(text)


def parsed_config(text: str) -> ModelConfig:
    """Return what the text of a config.toml means, but for a labels_file, which isn't looked for.

    Raises:
        ModelLoadError: it is no TOML, or says what it may not.
    """
    try:
        table = tomllib.loads(text)
        if "described" in table:
            raise ModelLoadError(f"{CONFIG_FILE}: described: Extra inputs are not permitted")
        return ModelConfig.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelLoadError(f"{CONFIG_FILE}: {problems}") from error
    except ValueError as error:
        raise ModelLoadError(f"{CONFIG_FILE} can't be read: {error}") from error


def _with_labels_from_file(config: ModelConfig, files: ModelFiles, name: str) -> ModelConfig:
    file = config.labels_file
    if file is None:
        return config
    if config.labels is not None:
        raise ModelLoadError(f"{CONFIG_FILE} has both labels and labels_file; keep one")
    if Path(file).name != file or file == "..":
        raise ModelLoadError(f"{CONFIG_FILE}: labels_file must be the name of a file in the same folder")
    data = files.read(name, file, most_bytes=_MOST_BYTES)
    if data is None:
        raise ModelLoadError(f"{CONFIG_FILE}: the labels_file {file} is not there")
    try:
        lines = _LINE_END.split(text_of(data))
    except ValueError as error:
        raise ModelLoadError(f"{file} can't be read: {error}") from error
    return config.model_copy(update={"labels": tuple(line.strip() for line in lines if line.strip())})
