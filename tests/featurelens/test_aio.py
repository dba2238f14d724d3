from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from featurelens import ALL_LAYERS, AsyncClient, Client, FeaturelensError, ImageLike, Prediction
from tests.featurelens.conftest import DEAD_ADDRESS
from tests.featurelens.servers import EndsEarly, Silent, failing_server


@pytest.fixture
async def async_client(server_address: str) -> AsyncIterator[AsyncClient]:
    """An asyncio client of the real server."""
    async with AsyncClient(server_address) as client:
        yield client


async def test_answers_as_the_blocking_client_does(
    async_client: AsyncClient, client: Client, seven: Path
) -> None:
    answer = await async_client.classify(seven, layers=ALL_LAYERS, return_input=True)
    expected = client.classify(seven, layers=ALL_LAYERS, return_input=True)

    assert answer.label == expected.label
    assert list(answer.feature_maps) == list(expected.feature_maps)
    np.testing.assert_array_equal(answer.input, expected.input)
    assert await async_client.models() == client.models()
    assert (await async_client.describe()).metadata == client.describe().metadata
    assert await async_client.is_serving()


async def test_calls_run_at_once(async_client: AsyncClient, seven: Path) -> None:
    answers = await asyncio.gather(*(async_client.classify(seven) for _ in range(20)))

    assert {answer.label for answer in answers} == {"7"}


async def test_a_tensor_goes_to_the_model_as_it_is(async_client: AsyncClient) -> None:
    answers = await async_client.classify_tensor(np.zeros((3, 1, 32, 32), np.float32), top_k=2)

    assert [len(answer.scores) for answer in answers] == [2, 2, 2]


async def test_a_stream_yields_outcomes_in_order(async_client: AsyncClient, seven: Path) -> None:
    images: list[ImageLike] = [seven, b"no image", "/no/such/file", *[seven] * 50]
    outcomes = [outcome async for outcome in async_client.classify_stream(images, in_flight=8)]

    assert [each.label if isinstance(each, Prediction) else each.code for each in outcomes] == [
        "7",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        *["7"] * 50,
    ]


async def test_a_stream_can_be_left_early(async_client: AsyncClient, seven: Path) -> None:
    stream = async_client.classify_stream(itertools.repeat(seven), in_flight=2)
    first = await anext(stream)
    await stream.aclose()

    assert isinstance(first, Prediction)
    assert (await async_client.classify(seven)).label == "7"


async def test_errors_are_the_blocking_clients(async_client: AsyncClient, seven: Path) -> None:
    with pytest.raises(FeaturelensError, match="INVALID_ARGUMENT: no layer"):
        await async_client.classify(seven, layers="relu9")
    async with AsyncClient(DEAD_ADDRESS) as nobody:
        with pytest.raises(FeaturelensError, match=f"no featurelens server answers at {DEAD_ADDRESS}"):
            await nobody.models()
        with pytest.raises(FeaturelensError, match=f"no featurelens server answers at {DEAD_ADDRESS}"):
            await anext(nobody.classify_stream([seven]))
        assert not await nobody.is_serving()


async def test_every_call_has_a_deadline(seven: Path) -> None:
    servicer = Silent()
    with failing_server(servicer) as address:
        async with AsyncClient(address, timeout=0.05) as client:
            for call in (client.models(), client.classify(seven), anext(client.classify_stream([seven]))):
                with pytest.raises(FeaturelensError, match=f"no answer from {address} within 0.05 s"):
                    await call
        servicer.released.set()


async def test_a_stream_that_ends_early_is_an_error(seven: Path) -> None:
    with failing_server(EndsEarly()) as address:
        async with AsyncClient(address) as client:
            with pytest.raises(FeaturelensError, match="INTERNAL: "):
                await anext(client.classify_stream([seven]))
