"""`featurelens top`: what a server does right now, read off its metrics."""

from __future__ import annotations

from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from featurelens.channel import DEFAULT_TIMEOUT_S
from featurelens.cli.console import CommandError, make_table, print_table, printable
from featurelens.cli.readings import Reading, Window, read

if TYPE_CHECKING:
    from rich.console import Group

_CALLS = ["method", "calls/s", "p50", "p99", "in progress", "failed/s"]
_MODELS = [
    *("model", "version", "state", "provider", "requests/s", "items/s", "items/run"),
    *("queue p50", "queue p99", "waiting", "failed/s"),
]

_NEVER = Event()

Rows = list[list[str]]


def top(
    metrics: Annotated[
        str, typer.Option("--metrics", metavar="ADDRESS", help="host:port of the server's metrics.")
    ] = "127.0.0.1:8002",
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds from one look to the next.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look twice, print what happened in between, end.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for an answer.")
    ] = DEFAULT_TIMEOUT_S,
) -> None:
    """Watch a server: calls, latency, batches, queues, models. In a pipe as with --once."""
    from rich.console import Console

    if once or not Console().is_terminal:
        before = read(metrics, timeout)
        _NEVER.wait(interval)
        _print(Window(before, read(metrics, timeout)), metrics)
    else:
        with suppress(KeyboardInterrupt):
            _watch(metrics, interval, timeout)


def _print(window: Window, address: str) -> None:
    print(headline(window, address))
    print_table(_CALLS, calls(window))
    print_table(_MODELS, models(window))
    print(refusals(window))


def _watch(address: str, interval_s: float, timeout_s: float) -> None:
    """Redraw the screen until Ctrl-C. The first look has nothing to compare with: it is since the start."""
    from rich.live import Live
    from rich.text import Text

    before: Reading | None = None
    after = read(address, timeout_s)
    with Live(screen=True, auto_refresh=False) as screen:
        while True:
            screen.update(_drawn(Window(before, after), address), refresh=True)
            before = after
            while not _NEVER.wait(interval_s):
                try:
                    after = read(address, timeout_s)
                    break
                except CommandError as error:
                    screen.update(Text(printable(str(error))), refresh=True)


def _drawn(window: Window, address: str) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text(printable(headline(window, address))),
        make_table(_CALLS, calls(window)),
        make_table(_MODELS, models(window)),
        Text(printable(refusals(window))),
    )


def headline(window: Window, address: str) -> str:
    """Tell of the processes."""
    (build,) = window.labels("featurelens_build_info") or [{"version": "?"}]
    alive, wanted = (window.now("featurelens_workers", state=state) for state in ("alive", "wanted"))
    restarts = window.now("featurelens_worker_restarts_total")
    return (
        f"{address}: featurelens {build['version']}, {alive:.0f} of {wanted:.0f} workers"
        f"{f', {restarts:.0f} restarts' if restarts else ''}, "
        f"{window.rate('process_cpu_seconds_total'):.0%} CPU, "
        f"{window.now('process_resident_memory_bytes') / 2**20:,.0f} MiB; "
        f"{'the last' if window.before else 'since its start,'} {seconds(window.seconds)}"
    )


def calls(window: Window) -> Rows:
    """Return a row for each method that was ever called; of a stream each message is a call."""
    return [
        _call_row(window, labels["grpc_type"], labels["grpc_method"])
        for labels in window.labels("grpc_server_msg_received_total")
        if window.now("grpc_server_msg_received_total", **labels)
    ]


def _call_row(window: Window, kind: str, method: str) -> list[str]:
    unary = kind == "unary"
    times = "grpc_server_handling_seconds" if unary else "featurelens_stream_message_seconds"
    began, ended = (
        window.now(f"grpc_server_{name}_total", grpc_method=method) for name in ("started", "handled")
    )
    failed = window.by("grpc_code", "grpc_server_handled_total", grpc_method=method)
    return [
        method if unary else f"{method}, messages",
        number(window.rate("grpc_server_msg_received_total", grpc_method=method)),
        *_quantiles(window, times, grpc_method=method),
        f"{max(0, began - ended):.0f}",
        ", ".join(
            f"{code} {number(count / window.seconds)}"
            for code, count in failed.items()
            if count and code != "OK"
        ),
    ]


def models(window: Window) -> Rows:
    """Return a row for each version of each model."""
    versions = dict.fromkeys(
        (labels["model"], labels["version"]) for labels in window.labels("featurelens_model_state")
    )
    return [_model_row(window, model, version) for model, version in versions]


def _model_row(window: Window, model: str, version: str) -> list[str]:
    of = {"model": model, "version": version}
    runs = window.growth("featurelens_run_batch_size_count", **of)
    failed = window.by("reason", "nv_inference_request_failure", **of)
    return [
        model,
        version,
        _state(window, of),
        ", ".join(_values(window, "provider", "featurelens_model_provider_info", of)),
        number(window.rate("nv_inference_request_success", **of)),
        number(window.rate("nv_inference_count", **of)),
        number(window.growth("featurelens_run_batch_size_sum", **of) / runs) if runs else "",
        *_quantiles(window, "featurelens_queue_seconds", **of),
        f"{window.now('nv_inference_pending_request_count', **of):.0f}",
        ", ".join(f"{reason} {number(n / window.seconds)}" for reason, n in failed.items() if n),
    ]


def _state(window: Window, of: dict[str, str]) -> str:
    """Name a version's state; where workers differ, with how many are in each."""
    states = {
        state: window.now("featurelens_model_state", state=state, **of)
        for state in _values(window, "state", "featurelens_model_state", of)
    }
    there = {state: count for state, count in states.items() if count}
    texts = list(there) if len(there) == 1 else [f"{state} {count:.0f}" for state, count in there.items()]
    if window.now("featurelens_model_change_refused", **of):
        texts.append("change refused")
    return ", ".join(texts)


def _values(window: Window, label: str, name: str, of: dict[str, str]) -> list[str]:
    return [labels[label] for labels in window.labels(name) if of.items() <= labels.items()]


def refusals(window: Window) -> str:
    """Tell how many requests were refused, and why."""
    found = window.by("reason", "featurelens_refusals_total")
    listed = [f"{reason} {number(count / window.seconds)}" for reason, count in found.items() if count]
    return f"refused/s: {', '.join(listed) or 'none'}"


def _quantiles(window: Window, name: str, **labels: str) -> list[str]:
    found = [window.quantile(share, name, **labels) for share in (0.5, 0.99)]
    return ["" if value is None else seconds(value) for value in found]


def seconds(value: float) -> str:
    """Write a duration with three digits, as 310 us, 1.24 ms or 12.0 s."""
    for unit, size in (("us", 1e-6), ("ms", 1e-3)):
        if value < 1000 * size:
            return f"{number(value / size)} {unit}"
    return f"{number(value)} s"


def number(value: float) -> str:
    """Write a number with three digits, or all that stand before the point."""
    if value >= 100 or not value:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
