"""What is said where no server of MONAI Label answers."""

import socket
import threading

import pytest
from helpers import refusal

from scripts.next.label_server import send


@pytest.fixture
def other_program():
    """The address of a program that is no server of web pages, as at a mistyped port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            with listening.accept()[0] as caller:
                caller.recv(4096)
                caller.sendall(b"SSH-2.0-Other\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_another_program_at_this_port(other_program):
    assert "no server of MONAI Label answers" in refusal(send, other_program, ["scan.nii.gz"])


@pytest.mark.parametrize("server", ["http://local host:8000", "http://127.0.0.1:80x", "127.0.0.1:8000", "server"])
def test_an_address_that_is_none(server):
    assert f"{server}: no server of MONAI Label answers" in refusal(send, server, ["scan.nii.gz"])
