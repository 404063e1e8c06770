"""A hub of one's own on 127.0.0.1: answers as the Hugging Face hub does, slowly, not at all, or with a refusal."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# repository → status and the hub's own words
REFUSALS = {
    "no/gated": (401, "GatedRepo", "Access to model no/gated is restricted."),
    "no/closed": (403, "", "Forbidden"),
    "no/missing": (404, "RepoNotFound", "Repository not found"),
    "no/private": (401, "RepoNotFound", "Invalid username or password."),
    "no/revision": (404, "RevisionNotFound", "Invalid rev id: main"),
    "no/health": (500, "", "Internal error"),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder, pause):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pause, self.closing, self.mute = pause, threading.Event(), {"no/answer"}
        self.files = {
            f.relative_to(folder).as_posix(): f.read_bytes()
            for f in folder.rglob("*")
            if f.is_file()
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        parts = path.removeprefix("api/models/").split("/")
        name = "/".join(parts[:2])
        if path == "turn-mute":
            self.server.mute.add("good/model")
            self.reply(200, b"")
        elif name in self.server.mute:
            self.server.closing.wait()
            self.close_connection = True
        elif name in REFUSALS:
            status, code, words = REFUSALS[name]
            self.reply(
                status,
                json.dumps({"error": words}).encode(),
                X_Error_Code=code,
                X_Error_Message=words,
            )
        else:
            self.server.closing.wait(self.server.pause)
            self.serve(path, parts)

    def serve(self, path, parts):
        files = self.server.files
        if parts[2:3] == ["tree"]:
            tree = [
                {"type": "file", "path": n, "size": len(b), "oid": _oid(b)}
                for n, b in files.items()
            ]
            self.reply(200, json.dumps(tree).encode(), Content_Type="application/json")
        elif path.startswith("api/models/"):
            about = {
                "id": "good/model",
                "sha": COMMIT,
                "siblings": [{"rfilename": n} for n in files],
            }
            self.reply(200, json.dumps(about).encode(), Content_Type="application/json")
        elif (file := "/".join(parts[4:])) in files:
            self.reply(200, files[file], ETag=f'"{_oid(files[file])}"', X_Repo_Commit=COMMIT)
        else:
            self.reply(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)


@contextmanager
def hub(folder, *, pause):
    """Serve a folder as ``good/model``; every answer of it takes `pause` seconds. Yields the address."""
    server = _Server(folder, pause)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _oid(data):
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
