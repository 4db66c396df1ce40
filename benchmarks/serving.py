"""Photos per second over HTTP: `npmnv2 serve` beside the same network in ONNX Runtime behind FastAPI.

    python benchmarks/serving.py model.h5 --clients 16 --seconds 5 --rounds 5

The peer is what a careful engineer writes: a plain function as endpoint, Pillow and NumPy, and either ONNX Runtime's
defaults or one thread a session call with as many calls as CPUs. Both servers get the same form with the same photo
from a separate process; their answers are compared first. All runs on this machine, on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, UploadFile
from harness import ratio, table

PHOTO = resources.files("npmnv2").joinpath("data/cat.jpg").read_bytes()
BOUNDARY = b"serving"


class Load(NamedTuple):
    """What one server did under load."""

    per_second: float
    median_ms: float
    p99_ms: float
    statuses: dict[int, int]


# --- the peer ---------------------------------------------------------------------------------------------------------


def peer(model: str, calls: int, threads: int) -> Any:
    """An application that classifies with ONNX Runtime: `calls` at once, on `threads` threads each."""
    import anyio.to_thread
    import numpy as np
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if calls:
            anyio.to_thread.current_default_thread_limiter().total_tokens = calls
        yield

    app = FastAPI(lifespan=lifespan)

    def pixels(content: bytes) -> Any:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        x = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
        return np.ascontiguousarray((x / 127.5 - 1).transpose(2, 0, 1)[None])

    @app.post("/v1/predict")
    def predict(photo: UploadFile) -> dict[str, Any]:
        (logits,) = session.run(None, {name: pixels(photo.file.read())})
        scores = np.exp(logits[0] - logits[0].max())
        scores /= scores.sum()
        best = np.argsort(-scores)[:5]
        return {"results": [{"candidates": [{"index": int(i), "score": float(scores[i])} for i in best]}]}

    return app


def run_peer(model: str, port: int, calls: int, threads: int) -> None:
    """Serve the peer until the process is stopped."""
    import uvicorn

    uvicorn.run(peer(model, calls, threads), port=port, log_level="warning", access_log=False)


@contextmanager
def server(command: list[str], port: int) -> Iterator[int]:
    """A server in a process of its own, once it listens."""
    process = subprocess.Popen(command)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- the clients ------------------------------------------------------------------------------------------------------


def request(path: str = "/v1/predict") -> bytes:
    """The bytes of a form with the photo."""
    part = b'Content-Disposition: form-data; name="photo"; filename="cat.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"--" + BOUNDARY + b"\r\n" + part + PHOTO + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n\r\n" + body


def exchange(connection: socket.socket, message: bytes) -> tuple[int, bytes]:
    """Send one request and read its answer: status and body."""
    connection.sendall(message)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    (length,) = (int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _received(connection)
    return int(head[9:12]), body


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(1 << 16)
    if not chunk:
        raise ConnectionError("the server closed the connection before its answer")
    return chunk


def load(port: int, clients: int, seconds: float) -> Load:
    """Let clients post the photo one request after the other, for some seconds."""
    message, times, statuses, end = request(), [], [], time.perf_counter() + seconds

    def client() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while (start := time.perf_counter()) < end:
                status, _ = exchange(connection, message)
                statuses.append(status)
                times.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = statuses.count(200) / (time.perf_counter() - start)
    p99 = statistics.quantiles(times, n=100)[-1]
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    return Load(good, 1e3 * statistics.median(times), 1e3 * p99, counts)


def answer(port: int) -> list[tuple[int, float]]:
    """Classes and scores of the photo."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        status, body = exchange(connection, request())
    assert status == 200, body
    return [(found["index"], found["score"]) for found in json.loads(body)["results"][0]["candidates"]]


def check(first: list[tuple[int, float]], second: list[tuple[int, float]]) -> None:
    """The same classes in the same order, with the same scores up to rounding."""
    assert [index for index, _ in first] == [index for index, _ in second], (first, second)
    assert all(abs(a - b) < 1e-3 for (_, a), (_, b) in zip(first, second)), (first, second)


# --- both -------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Run all servers at once, and load one after the other, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a float classifier that npmnv2 reads")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", nargs=3, type=int, metavar=("PORT", "CALLS", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run_peer(options.model, *options.peer)
        return
    compare(options)


def files(model: str, folder: Path) -> tuple[str, str]:
    """The network for both: as a native file that prepares photos as the peer does, and as ONNX."""
    import npmnv2
    from npmnv2.weights_tools import write

    own = npmnv2.load(model)
    own.processor = npmnv2.MobileNetV2ImageProcessor.preset("hf", own.config.image_size)
    for file in ("model.h5", "model.onnx"):
        write(own.to_checkpoint(), folder / file)
    return str(folder / "model.h5"), str(folder / "model.onnx")


def compare(options: argparse.Namespace) -> None:
    """Print photos per second, and the ratio to npmnv2's within each round."""
    cpus = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own_file, onnx = files(options.model, folder)
        ports = {name: free_port() for name in ("npmnv2 serve", "onnxruntime, tuned", "onnxruntime, defaults")}
        own = [sys.executable, "-m", "npmnv2", "serve", "-m", own_file, "--port"]
        other = [sys.executable, __file__, onnx, "--peer"]
        commands = ([], [str(cpus), "1"], ["0", "0"])
        for port, arguments in zip(ports.values(), commands):
            command = [*(other if arguments else own), str(port), *arguments]
            stack.enter_context(server(command, port))
        found = {name: answer(port) for name, port in ports.items()}
        for name in found:
            check(found["npmnv2 serve"], found[name])
        for port in ports.values():
            load(port, options.clients, 0.5)
        loads: dict[str, list[Load]] = {name: [] for name in ports}
        for _ in range(options.rounds):
            for name, port in ports.items():
                loads[name].append(load(port, options.clients, options.seconds))
    print(report(loads))


def report(loads: dict[str, list[Load]]) -> str:
    """A table of the medians over the rounds."""
    own = [one.per_second for one in loads["npmnv2 serve"]]
    rows = []
    for name, rounds in loads.items():
        rate, median, p99 = (statistics.median(values) for values in list(zip(*rounds))[:3])
        gain = ratio(own, [one.per_second for one in rounds])
        failed = sum(count for one in rounds for status, count in one.statuses.items() if status != 200)
        rows.append([name, f"{rate:.0f}", f"{gain:.2f}", f"{median:.0f}", f"{p99:.0f}", str(failed)])
    return table(["server", "photos/s", "npmnv2 is × as fast", "median, ms", "p99, ms", "not 200"], rows)


if __name__ == "__main__":
    main()
