"""Pages in a browser without a window, for the tests that look at them. They are skipped where there is no Chromium."""

import json
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-sync"
QUIET += " --disable-component-update --allow-file-access-from-files --enable-logging=stderr --v=0"


def browse(folder: Path, file: Path, *flags: str) -> tuple[str, list[str]]:
    """A page after the browser has loaded it, and the lines of the browser's console.

    Args:
        folder: for the browser's own files.
        file: the page.
        flags: further options of Chromium.
    """
    command = [BROWSER, *QUIET.split(), f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def observe(folder: Path, file: Path, *flags: str) -> tuple[dict, list[str]]:
    """What the script of a page has seen, however long it takes, and the lines of the browser's console.

    Args:
        folder: for the browser's own files.
        file: the page; it posts what it has seen, as JSON, to the port that is in its address behind #.
        flags: further options of Chromium.
    """
    told: list[bytes] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server, (folder / "stderr").open("w+") as log:
        server.timeout = 120
        address = f"{file.as_uri()}#{server.server_port}"
        command = [BROWSER, *QUIET.split(), f"--user-data-dir={folder / 'profile'}", *flags, address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as browser:
            try:
                server.handle_request()
            finally:
                browser.terminate()
        lines = (folder / "stderr").read_text(errors="replace").splitlines()
    assert told, "\n".join(lines)
    return json.loads(told[0]), [line for line in lines if "CONSOLE" in line]
