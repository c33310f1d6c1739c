"""A hub on the loopback address, for the real huggingface_hub: what publishing and downloading a bundle asks for.

Repositories are kept in memory: a list of commits, each with all of its files, and tags. Weights go the way of large
files (LFS), the rest into the commit itself. Writing, and reading what is private, needs the token.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"
LARGE = (".pt", ".ts")


@dataclass
class Repository:
    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    messages: list[str] = field(default_factory=lambda: ["initial commit"])
    tags: dict[str, int] = field(default_factory=dict)

    def oid(self, number: int) -> str:
        return hashlib.sha1(str(number).encode()).hexdigest()

    def number(self, revision: str) -> int | None:
        """Of the commit that a branch, a tag or an id names."""
        names = {"main": len(self.commits) - 1, **self.tags}
        return names.get(revision, next((n for n in range(len(self.commits)) if self.oid(n) == revision), None))


class Hub(ThreadingHTTPServer):
    """Runs in a thread of its own from `with Hub() as hub:` on; `hub.url` is what HF_ENDPOINT has to be."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self.chunks()
        path = unquote(urlsplit(self.path).path)
        for method, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method:
                with self.server.lock:
                    return self.allowed(found, answer)
        self.reply(404, {"error": f"this server knows no {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def chunks(self) -> bytes:
        """A body that comes in pieces."""
        found = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return found

    def allowed(self, found: re.Match, answer: Callable) -> None:
        """Answers, if the repository is there and the token is the one that may see it or change it."""
        parts = found.groupdict()
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        repository = self.server.repositories.get(parts.get("repo", ""))
        if self.command in ("POST", "PUT") and "oid" not in parts and not known:
            return self.reply(401, {"error": "Invalid username or password."})
        if "repo" in parts and (repository is None or repository.private and not known):
            return self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if "revision" in parts and repository.number(parts["revision"]) is None:
            return self.reply(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        answer(self, *([repository] if repository else []), **parts)

    def reply(self, status: int, content: object, headers: dict | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *words) -> None:
        """Nothing on the screen of a test."""

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        status = 409 if name in self.server.repositories else 200
        private = asked.get("visibility") == "private" or bool(asked.get("private"))  # the older way to say it
        self.server.repositories.setdefault(name, Repository(private))
        self.reply(status, {"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def validate(self) -> None:
        """The front matter of a card; the real hub knows more rules."""
        front = re.match(r"---\n(.+?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        problem = [] if front and "license:" in front[1] else [{"message": "no front matter with a licence"}]
        self.reply(400 if problem else 200, {"errors": problem, "warnings": []})

    def preupload(self, repository: Repository, repo: str, revision: str) -> None:
        files = [
            {
                "path": file["path"], "shouldIgnore": False,
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
            }
            for file in json.loads(self.body)["files"]
        ]  # fmt: skip
        self.reply(200, {"files": files})

    def batch(self, repository: Repository, repo: str) -> None:
        objects = [
            {
                "oid": entry["oid"], "size": entry["size"],
                "actions": {"upload": {"href": f"{self.server.url}/large/{entry['oid']}"}},
            }
            for entry in json.loads(self.body)["objects"]
        ]  # fmt: skip
        headers = {"Content-Type": "application/vnd.git-lfs+json"}
        self.reply(200, {"transfer": "basic", "objects": objects}, headers)

    def put(self, oid: str) -> None:
        right = hashlib.sha256(self.body).hexdigest() == oid
        if right:
            self.server.large[oid] = self.body
        self.reply(200 if right else 400, {})

    def commit(self, repository: Repository, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        files = dict(repository.commits[-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits.append(files)
        repository.messages.append(lines[0]["value"]["summary"])
        oid = repository.oid(len(repository.commits) - 1)
        said = {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{repo}/commit/{oid}"}
        self.reply(200, {**said, "hookOutput": ""})

    def tag(self, repository: Repository, repo: str, revision: str) -> None:
        name = json.loads(self.body)["tag"]
        status = 409 if name in repository.tags else 200
        repository.tags.setdefault(name, repository.number(revision))
        self.reply(status, {})

    def refs(self, repository: Repository, repo: str) -> None:
        def entries(kind: str, names: dict[str, int]) -> list[dict]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": repository.oid(number)}
                for name, number in names.items()
            ]

        branches = entries("heads", {"main": len(repository.commits) - 1})
        self.reply(200, {"branches": branches, "tags": entries("tags", repository.tags), "converts": []})

    def info(self, repository: Repository, repo: str, revision: str = "main") -> None:
        number = repository.number(revision)
        siblings = [{"rfilename": name} for name in repository.commits[number]]
        self.reply(
            200, {"id": repo, "sha": repository.oid(number), "private": repository.private, "siblings": siblings}
        )

    def tree(self, repository: Repository, repo: str, revision: str) -> None:
        files = repository.commits[repository.number(revision)]
        entries = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in files.items()
        ]
        self.reply(200, entries)

    def resolve(self, repository: Repository, repo: str, revision: str, path: str) -> None:
        number = repository.number(revision)
        data = repository.commits[number].get(path)
        if data is None:
            return self.reply(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha256(data).hexdigest()
        self.reply(200, data, {"X-Repo-Commit": repository.oid(number), "ETag": f'"{digest}"'})


REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES = [  # methods, path, what answers
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("POST", f"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", "/large/(?P<oid>[0-9a-f]{64})", Handler.put),
    ("POST", f"/api/models/{REPO}/commit/(?P<revision>[^/]+)", Handler.commit),
    ("POST", f"/api/models/{REPO}/tag/(?P<revision>[^/]+)", Handler.tag),
    ("GET", f"/api/models/{REPO}/refs", Handler.refs),
    ("GET", f"/api/models/{REPO}/tree/(?P<revision>[^/]+)", Handler.tree),
    ("GET", f"/api/models/{REPO}/revision/(?P<revision>[^/]+)", Handler.info),
    ("GET", f"/api/models/{REPO}", Handler.info),
    ("GET HEAD", f"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
]
