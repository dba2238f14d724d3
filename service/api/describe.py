"""ListModels and DescribeModel: what the repository holds, and what a model is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.tensors import pack
from service.api.call import Call
from service.errors import InvalidRequestError, LimitExceededError
from service.repository import Repository

