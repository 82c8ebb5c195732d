"""The report served on this machine only, made again when the run's file changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click

from conformance.report import render
from conformance.report.material import Material
from conformance.runs import run_file

HOST = "127.0.0.1"


class Pages:
    """The page of the run as it is now."""

    def __init__(self, folder: Path, gather: Callable[[], Material]) -> None:
        self._run, self._gather, self._lock = folder, gather, threading.Lock()
        self._made, self._page = "", b""

    def stamp(self) -> str:
        """Return a value that changes when the run does."""
        file = run_file.path_of(self._run) if self._run.is_dir() else self._run
        try:
            found = file.stat()
        except OSError:  # being replaced just now
            return self._made
        return f"{found.st_mtime_ns} {found.st_size}"

    def page(self) -> bytes:
        """Return the page, made again if the run has changed."""
        with self._lock:
            if (stamp := self.stamp()) != self._made:
                self._page, self._made = render(self._gather(), reload=True).encode(), stamp
            return self._page


def server(pages: Pages, port: int) -> ThreadingHTTPServer:
    """Return a server for these pages; port 0: any that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)  # another site's name that was pointed at this machine
            elif self.path == "/stamp":
                self._send("text/plain", pages.stamp().encode())
            elif self.path in ("/", "/report.html"):
                self._send("text/html; charset=utf-8", pages.page())
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing: a request a second is no news."""

    return ThreadingHTTPServer((HOST, port), Handler)


def serve(folder: Path, gather: Callable[[], Material], port: int) -> None:
    """Serve until interrupted."""
    pages = Pages(folder, gather)
    pages.page()  # what is wrong with the run is said before anybody opens it
    with server(pages, port) as running:
        click.echo(f"http://{HOST}:{running.server_address[1]}/ shows the report, on this machine only; Ctrl+C ends it")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return
