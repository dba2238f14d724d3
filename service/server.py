"""Puts the parts together: models, scheduler, methods, transport, health; starts them, drains them, stops them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from protos.featurelens.v1 import classifier_pb2 as pb
from service.api.classify import ClassifyMethod, RequestLimits, stream_error
from service.api.describe import DescribeMethods
from service.api.dispatch import Dispatcher, StreamMethod
from service.cpus import available_cpus
from service.device import resolve
from service.images import ImageLimits
from service.model import Model
from service.repository import Repository
from service.scheduler import Scheduler
from service.settings import Settings
from service.transport.grpcio import TransportLimits, bind, build_server

_log = structlog.stdlib.get_logger(__name__)

CLASSIFIER = pb.DESCRIPTOR.services_by_name["Classifier"].full_name
_HEALTH_NAMES = ("", CLASSIFIER)
