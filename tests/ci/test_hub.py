"""Publishing on the Hugging Face Hub and downloading from it: the real programs, and a hub on the loopback address."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import monai.bundle
import pytest
import torch
from conftest import ROOT
from hub_server import TOKEN, Hub
from huggingface_hub import HfApi
from monai.bundle import ConfigParser

pytestmark = pytest.mark.programs

REPO = "someone/pelvis"
VERSION = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text())["version"]


@pytest.fixture(scope="module")
def packed(package, collected, tmp_path_factory) -> Path:
    """The zip file of the tiny package."""
    file = tmp_path_factory.mktemp("dist") / "package.zip"
    package.pack(collected, file)
    return file


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with Hub() as server:
        yield server


def command(hub: Hub, folder: Path, *words: str, token: str | None = TOKEN) -> subprocess.CompletedProcess:
    """As a user types it, with nothing known of the real hub."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "hf")}
    environment |= {"HF_TOKEN": token} if token else {}
    line = [sys.executable, "-W", "ignore", *words]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def published(hub, packed, tmp_path_factory):
    """The repository on the hub after `.ci/publish.py` has run."""
    folder = tmp_path_factory.mktemp("publish")
    done = command(hub, folder, str(ROOT / ".ci" / "publish.py"), "--repo", REPO, "--package", str(packed))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{REPO} has version {VERSION}"
    return hub.repositories[REPO]


@pytest.fixture(scope="module")
def downloaded(hub, published, package, tmp_path_factory) -> Path:
    """What MONAI's command brings."""
    folder = tmp_path_factory.mktemp("download")
    options = ["--source", "huggingface_hub", "--repo", REPO, "--bundle_dir", str(folder)]
    done = command(hub, folder, "-m", "monai.bundle", "download", package.NAME, *options)
    assert done.returncode == 0, done.stderr
    return folder / package.NAME


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, less what the downloading program keeps for itself."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    named = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    return {name: data for name, data in named.items() if not name.startswith(".cache/")}


def differences(package: Path, downloaded: Path) -> list[str]:
    """Names of the files that are not the same in both. The hub's own README.md is left out."""
    one, other = contents(package), contents(downloaded)
    return sorted(name for name in {*one, *other} - {"README.md"} if one.get(name) != other.get(name))


def test_the_download_is_the_package_byte_for_byte(collected, downloaded):
    assert differences(collected, downloaded) == []
    assert len(contents(collected)) > 100 and (downloaded / "README.md").is_file()
    assert set(contents(downloaded)) == {*contents(collected), "README.md"}


def test_the_card_has_front_matter_and_its_links_lead_to_files(collected, downloaded):
    card = (downloaded / "README.md").read_text()
    front, text = re.fullmatch(r"---\n(.+?)\n---\n(.+)", card, re.DOTALL).groups()
    assert "license: apache-2.0" in front.splitlines() and "library_name: monai" in front.splitlines()
    own = (collected / "docs" / "README.md").read_text()
    assert (downloaded / "docs" / "README.md").read_text() == own and "esearch use only" in text

    def targets(page: str, folder: Path) -> list[Path]:
        found = re.findall(r"\]\((?!#|https?:)([^)#]+)(?:#[^)]*)?\)", page)
        return [(folder / target).resolve() for target in found]

    of_the_hub, of_the_bundle = targets(text, downloaded), targets(own, downloaded / "docs")
    assert of_the_hub == of_the_bundle and all(file.is_file() for file in of_the_hub)
    assert {"overlay.png", "progress.png"} <= {file.name for file in of_the_hub}
    assert re.sub(r"\]\(.*?\)", "", text) == re.sub(r"\]\(.*?\)", "", own)


def test_the_version_has_a_tag_and_the_repository_is_private(published, downloaded):
    assert published.tags == {VERSION: len(published.commits) - 1} and published.private
    assert published.commits[-1]["README.md"] == (downloaded / "README.md").read_bytes()


def outputs(network: torch.nn.Module) -> torch.Tensor:
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.eval()(image)


def test_a_network_of_the_download_gives_equal_outputs(collected, downloaded):
    """By `monai.bundle.load`, and by its two files alone."""
    original = ConfigParser(json.loads((collected / "configs" / "inference.json").read_text()))
    network = original.get_parsed_content("network_def")
    network.load_state_dict(torch.load(collected / "models" / "model.pt", weights_only=True))
    expected = outputs(network)
    assert expected.shape == (1, 6, 32, 32, 32) and expected.std() > 0
    loaded = monai.bundle.load(downloaded.name, bundle_dir=str(downloaded.parent), device="cpu")
    assert torch.equal(outputs(loaded), expected)
    parser = ConfigParser()
    parser.read_config(str(downloaded / "configs" / "inference.json"))
    again = parser.get_parsed_content("network_def")
    assert not torch.equal(outputs(again), expected)
    again.load_state_dict(torch.load(downloaded / "models" / "model.pt", weights_only=True))
    assert torch.equal(outputs(again), expected)


BY_NAME = """
import sys
import monai.bundle, torch
network = monai.bundle.load("male_pelvis_mri_segmentation").cpu().eval()
with torch.no_grad():
    torch.save(network(torch.load(sys.argv[1])), sys.argv[2])
"""


def test_load_needs_nothing_but_the_name(downloaded, collected, tmp_path):
    """In a program of its own, in another folder, from where MONAI keeps its bundles. What is downloaded to there has
    the files of the package, which others unpack there."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "bundle").symlink_to(downloaded.parent)
    torch.save(torch.rand(1, 1, 32, 32, 32), tmp_path / "image.pt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [sys.executable, "-W", "ignore", "-c", BY_NAME, "image.pt", "outputs.pt"]
    environment |= {"TORCH_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    original = ConfigParser(json.loads((collected / "configs" / "inference.json").read_text()))
    network = original.get_parsed_content("network_def")
    network.load_state_dict(torch.load(collected / "models" / "model.pt", weights_only=True))
    expected = network.eval()(torch.load(tmp_path / "image.pt")).detach()
    assert torch.allclose(torch.load(tmp_path / "outputs.pt"), expected, atol=1e-5) and expected.std() > 0.01


@pytest.fixture
def publish(ci, monkeypatch):
    """The function, in this process, for a hub of its own; `publish(hub, package)`."""
    script = ci("publish")

    def publishing(hub: Hub, package: Path, token: str = TOKEN, repo: str = REPO, *options: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
            patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
            patch.setattr(sys, "argv", ["publish.py", "--repo", repo, "--package", str(package), *options])
            patch.setenv("HF_TOKEN", token)
            script.main()

    return publishing


def fetched(hub: Hub, folder: Path, revision: str | None = None) -> Path:
    """A download without MONAI, which would ask the real hub from here."""
    api = HfApi(endpoint=hub.url, token=TOKEN)
    return Path(api.snapshot_download(REPO, revision=revision, local_dir=folder, etag_timeout=5))


def lose_a_file(hub: Hub) -> str:
    del hub.repositories[REPO].commits[-1]["scripts/core/errors.py"]
    return "scripts/core/errors.py"


def truncate_the_weights(hub: Hub) -> str:
    files = hub.repositories[REPO].commits[-1]
    files["models/model.pt"] = files["models/model.pt"][:-1]
    return "models/model.pt"


def change_a_line(hub: Hub) -> str:
    files = hub.repositories[REPO].commits[-1]
    files["configs/inference.json"] = files["configs/inference.json"].replace(b"0.5", b"0.6", 1)
    return "configs/inference.json"


@pytest.mark.parametrize(
    "spoil",
    [
        lose_a_file,
        pytest.param(truncate_the_weights, marks=pytest.mark.slow),
        pytest.param(change_a_line, marks=pytest.mark.slow),
    ],
)
def test_a_hub_that_spoils_a_file_is_noticed(spoil, publish, packed, collected, tmp_path):
    """The comparison of the first test, on a hub that is broken on purpose."""
    with Hub() as hub:
        publish(hub, packed)
        spoilt = spoil(hub)
        assert differences(collected, fetched(hub, tmp_path)) == [spoilt]


def packed_again(package, collected: Path, folder: Path, version: str) -> Path:
    """The package as another version, without one of its files."""
    copy = shutil.copytree(collected, folder / package.NAME)
    metadata = copy / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace(f'"version": "{VERSION}"', f'"version": "{version}"'))
    (copy / "configs" / "mirrored.json").unlink()
    package.pack(copy, folder / "next.zip")
    return folder / "next.zip"


def test_a_version_is_published_once_and_the_next_one_replaces_its_files(
    publish, package, packed, collected, tmp_path, capsys
):
    with Hub() as hub:
        publish(hub, packed)
        with pytest.raises(SystemExit, match=f"^{REPO}: has version {VERSION} already; write the next one into"):
            publish(hub, packed)
        publish(hub, packed_again(package, collected, tmp_path, "9.9.9"))
        assert capsys.readouterr().out.endswith(f"{REPO} has version 9.9.9\n")
        repository = hub.repositories[REPO]
        assert repository.tags == {VERSION: 2, "9.9.9": 4}
        assert not (fetched(hub, tmp_path / "new", "9.9.9") / "configs" / "mirrored.json").exists()
        assert differences(collected, fetched(hub, tmp_path / "old", VERSION)) == []


@pytest.mark.parametrize(
    ("token", "repo", "exists", "expected"),
    [
        (TOKEN, "", True, "REPO is '': expected OWNER/NAME on the hub; say make publish REPO=OWNER/NAME"),
        (TOKEN, "pelvis", True, "REPO is 'pelvis': expected OWNER/NAME"),
        ("", REPO, True, "HF_TOKEN is not set: expected a token of the hub that may write"),
        (TOKEN, REPO, False, "no package there; make package writes it"),
        ("hf_of_somebody_else", REPO, True, f"{REPO}: not published completely; .*401"),
    ],
)
def test_what_is_missing_takes_one_line(token, repo, exists, expected, publish, packed, tmp_path):
    with Hub() as hub:
        with pytest.raises(SystemExit, match=expected) as ended:
            publish(hub, packed if exists else tmp_path / "none.zip", token, repo)
        assert len(str(ended.value).splitlines()) == 1 and token not in str(ended.value).split()
        assert not hub.repositories


def test_a_public_repository(publish, packed):
    with Hub() as hub:
        publish(hub, packed, TOKEN, REPO, "--public")
        assert not hub.repositories[REPO].private


def test_make_publish_hands_the_repository_over():
    done = subprocess.run(
        ["make", "--dry-run", "publish", f"REPO={REPO}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and f'.ci/publish.py --repo "{REPO}"' in done.stdout


def test_links_of_a_page_as_they_are_one_folder_above(ci):
    page = "[a](x.md#y) ![b](p/q.png) [c](#here) [d](https://a.b/c) [e](../LICENSE) [f](mailto:a@b.c)"
    expected = "[a](docs/x.md#y) ![b](docs/p/q.png) [c](#here) [d](https://a.b/c) [e](LICENSE) [f](mailto:a@b.c)"
    assert ci("publish").from_the_root(page) == expected
