"""A package index on this machine, of tiny wheels whose numbers change between versions."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
import zipfile
from pathlib import Path

import numpy as np

JSON = "application/vnd.pypi.simple.v1+json"


def wheel(folder, name, version, files, requires=()):
    """Write a wheel of these files and return its name."""
    about = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as out:
        for path, text in (files | {f"{about}/RECORD": record}).items():
            out.writestr(path, text)
    return made.name


def numpy(folder):
    """Write a NumPy that is this process's own: a wheel with a path to it."""
    here = str(Path(np.__file__).parents[1])
    return wheel(folder, "numpy", np.__version__, {"numpy-here.pth": here + "\n"})


def listing(folder, name, dates):
    """Return what the index says of a package, as JSON."""
    files = [
        {
            "filename": path.name,
            "url": f"/files/{path.name}",
            "hashes": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
            "requires-python": ">=3.6",
            "upload-time": f"{dates.get(path.name, '2023-12-01')}T00:00:00Z",
            "yanked": path.name in dates.get("yanked", ()),
        }
        for path in sorted(folder.glob(f"{name}-*.whl"))
    ]
    return {"meta": {"api-version": "1.1"}, "name": name, "files": files} if files else None


@contextlib.contextmanager
def serving(folder, dates):
    """Serve a folder of wheels as an index, and yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            parts = self.path.strip("/").split("/")
            found = (folder / parts[1]).read_bytes() if parts[0] == "files" else b""
            if parts[0] == "simple" and (said := listing(folder, parts[1], dates)):
                found = json.dumps(said).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", JSON if parts[0] == "simple" else "application/octet-stream")
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(found)

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()
