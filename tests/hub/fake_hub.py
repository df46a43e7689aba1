"""A Hub on the loopback interface: enough of its HTTP interface to create, commit, list and download repositories.

Files are kept in memory. Uploads come inside the commit (the Hub calls this the regular mode). Knobs make it refuse
and misbehave: private repositories, tokens that may only read, downloads that break off.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRITER, READER = "hf_writer", "hf_reader"


@dataclass
class Repository:
    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])

    def sha(self, index: int) -> str:
        content = json.dumps({k: hashlib.sha256(v).hexdigest() for k, v in sorted(self.commits[index].items())})
        return hashlib.sha1(f"{index}{content}".encode()).hexdigest()

    def find(self, revision: str) -> int | None:
        if revision in ("main", "HEAD"):
            return len(self.commits) - 1
        return next((i for i in range(len(self.commits)) if self.sha(i) == revision), None)


class FakeHub(ThreadingHTTPServer):
    """The server; `repositories` is its whole state, `requests` what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.break_after: int | None = None  # bytes of a download after which the connection is dropped
        self.breaks_left = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve():
    """Runs a hub in a thread for the length of the block."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("HEAD")

    def do_POST(self):
        self.route("POST")

    def route(self, method):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        path = self.path.split("?")[0]
        self.server.requests.append(f"{method} {path}")
        for verb, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and verb in (method, "GET" if method == "HEAD" else method):
                return action(self, *match.groups())
        return self.fail(404, "EntryNotFound", f"no route {method} {path}")

    @property
    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def answer(self, content, status=200, headers=None):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def fail(self, status, code, message):
        self.answer({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def find(self, name, revision):
        """Returns repository and commit index, or None after answering with the Hub's error."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and self.token not in (WRITER, READER)):
            self.fail(401, "RepoNotFound", "Repository not found")
            return None
        index = repository.find(revision)
        if index is None:
            self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, index

    def may_write(self):
        if self.token == WRITER:
            return True
        self.fail(403 if self.token else 401, "", "You don't have the rights to write to this repository")
        return False

    def whoami(self):
        self.answer({"name": "user", "type": "user", "orgs": []})

    def create(self):
        if not self.may_write():
            return None
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if name in self.server.repositories:
            return self.answer({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
        self.server.repositories[name] = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
        return self.answer({"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def validate(self):
        self.answer({"errors": [], "warnings": []})

    def preupload(self, name, revision):
        if self.may_write() and self.find(name, revision):
            files = json.loads(self.body)["files"]
            self.answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )

    def commit(self, name, revision):
        found = self.find(name, revision) if self.may_write() else None
        if found is None:
            return
        repository, index = found
        files = dict(repository.commits[index])
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        repository.commits.append(files)
        sha = repository.sha(len(repository.commits) - 1)
        self.answer({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def info(self, name, revision="main"):
        found = self.find(name, revision)
        if found:
            repository, index = found
            siblings = [{"rfilename": f, "size": len(b)} for f, b in repository.commits[index].items()]
            self.answer({"id": name, "modelId": name, "sha": repository.sha(index), "siblings": siblings,
                         "private": repository.private, "tags": [], "downloads": 0})  # fmt: skip

    def tree(self, name, revision):
        found = self.find(name, revision)
        if found:
            repository, index = found
            entries = repository.commits[index].items()
            self.answer([{"type": "file", "path": f, "size": len(b), "oid": _etag(b)} for f, b in entries])

    def resolve(self, name, revision, file):
        found = self.find(name, revision)
        if found is None:
            return None
        repository, index = found
        if file not in repository.commits[index]:
            return self.fail(404, "EntryNotFound", f"{file} does not exist")
        content = repository.commits[index][file]
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": repository.sha(index), "Accept-Ranges": "bytes"}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        status = 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
            content = content[int(start[1]) :]
        if self.command == "GET" and self.server.breaks_left and len(content) > (self.server.break_after or 0):
            self.server.breaks_left -= 1
            return self.break_off(content, status, headers)
        return self.answer(content, status, headers)

    def break_off(self, content, status, headers):
        """Promises the whole and closes the connection after a part."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content[: self.server.break_after])
        self.wfile.flush()
        self.close_connection = True


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", Handler.whoami),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", rf"/api/models/{NAME}/preupload/([^/]+)", Handler.preupload),
    ("POST", rf"/api/models/{NAME}/commit/([^/]+)", Handler.commit),
    ("GET", rf"/api/models/{NAME}/tree/([^/]+)", Handler.tree),
    ("GET", rf"/api/models/{NAME}/revision/([^/]+)", Handler.info),
    ("GET", rf"/api/models/{NAME}", Handler.info),
    ("GET", rf"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]
