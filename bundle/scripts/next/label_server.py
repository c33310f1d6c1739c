"""Tells a server of MONAI Label the order of the scans, so that a labelling program is offered them in this order."""

import json
from collections.abc import Sequence
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from scripts.core.errors import UserError, one_line_reason
from scripts.data.names import case_name

KEY = "epistemic_entropy"  # what the server's strategy of this name orders by
SECONDS = 60


def send(server: str, images: Sequence[str]) -> None:
    """Gives every scan a score, the first one the highest.

    Args:
        server: its address.
        images: the files, in their order.

    Raises:
        UserError: no server there, or it does not know a scan.
    """
    for place, image in enumerate(images):
        info = urlencode({"info": json.dumps({KEY: round(1 - place / len(images), 6)})}).encode()
        where = f"{server.rstrip('/')}/datastore/image/info?image={quote(case_name(image))}"
        try:
            with urlopen(Request(where, info, method="PUT"), timeout=SECONDS):
                pass
        except HTTPError as error:
            raise UserError(
                f"{server}: the server answered {error.code} for the scan {case_name(image)}, expected that it knows "
                "it; start the server with --studies of this folder"
            ) from error
        except (URLError, HTTPException, ValueError, OSError) as error:
            raise UserError(
                f"{server}: no server of MONAI Label answers ({one_line_reason(error)}); start it, or correct --server"
            ) from error
