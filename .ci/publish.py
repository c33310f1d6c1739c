"""Publishes the package on the Hugging Face Hub, by MONAI's `push_to_hf_hub`.

    HF_TOKEN=... python .ci/publish.py --repo OWNER/NAME [--package FILE] [--public]

Without `--package` it is the file that `make package` has written for the present version. The repository on the hub is
made where it is missing, and private unless `--public` is given. Files of an earlier version that the package does not
have are deleted there; the tags of earlier versions still have them. A version is published once.

MONAI copies docs/README.md to README.md, which the hub shows. Links that lead from docs/ lead nowhere from there, so a
second commit sets them right, and the version's tag is put on this one. MONAI's own tag `latest_version` is not used:
it stays where it was put first.
"""

import argparse
import json
import os
import posixpath
import re
import sys
import tempfile
import zipfile
from pathlib import Path

from monai.bundle import push_to_hf_hub
from package import package_file
from verify import reason


class RefusalError(Exception):
    """What the user has to do first, in one line."""


def from_the_root(card: str, folder: str = "docs") -> str:
    """A page of a folder as it has to be in the folder above: its relative links and pictures lead to the same files.

    Args:
        card: Markdown.
        folder: the folder that the page was written for.
    """

    def moved(link: re.Match) -> str:
        path, hash_sign, anchor = link[1].partition("#")
        return f"]({posixpath.normpath(posixpath.join(folder, path))}{hash_sign}{anchor})"

    return re.sub(r"\]\((?!#|[a-z]+:)([^)\s]+)\)", moved, card)


def checked(repo: str, token: str, package: Path) -> None:
    """Refuses to begin where something is missing."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise RefusalError(f"REPO is {repo!r}: expected OWNER/NAME on the hub; say make publish REPO=OWNER/NAME")
    if not token:
        raise RefusalError("HF_TOKEN is not set: expected a token of the hub that may write; put it into HF_TOKEN")
    if not package.is_file():
        raise RefusalError(f"{package}: no package there; make package writes it")


def publish(repo: str, token: str, package: Path, private: bool = True) -> str:
    """Uploads the package, mends the links of its card, puts the version's tag on it, and returns where it is."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    hub = HfApi(token=token)
    with tempfile.TemporaryDirectory() as work:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(work)
        (folder,) = Path(work).iterdir()
        version = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
        try:
            published = [tag.name for tag in hub.list_repo_refs(repo).tags]
        except RepositoryNotFoundError:
            published = []
        if version in published:
            raise RefusalError(f"{repo}: has version {version} already; write the next one into configs/metadata.json")
        push_to_hf_hub(
            repo, folder.name, work, token, private,
            delete_patterns="*", commit_message=f"Version {version}",
        )  # fmt: skip
        card = from_the_root((folder / "README.md").read_text(encoding="utf-8"))
        hub.upload_file(
            path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo,
            commit_message="The card's links lead to docs/",
        )  # fmt: skip
        hub.create_tag(repo, tag=version)
    return f"{hub.endpoint}/{repo} has version {version}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repo", required=True, help="OWNER/NAME on the hub")
    parser.add_argument("--package", type=Path, default=package_file(), help="the zip file")
    parser.add_argument("--public", action="store_true", help="everybody may see it; otherwise only its owner")
    given = parser.parse_args()
    token = os.environ.get("HF_TOKEN", "")
    try:
        checked(given.repo, token, given.package)
        print(publish(given.repo, token, given.package, private=not given.public))
    except RefusalError as refusal:
        sys.exit(str(refusal))
    except ImportError:
        sys.exit("huggingface_hub is not installed: pip install huggingface_hub")
    except Exception as error:  # of the network, of many kinds
        sys.exit(f"{given.repo}: not published completely; {reason(error)}")


if __name__ == "__main__":
    main()
