"""Fixtures every test may use."""

import gc
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = (
    "fast_temporary",
    "fidelity_table",
    "migrated_store",
    "pytester",
    "toy_results",
    "work_order",
)  # fidelity_table has `agrees` and --fidelity

# A shell that runs the tests in the background has them ignore these, and what they start as well.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take any time: machines are busy.
settings.register_profile("ovseg", deadline=None)
settings.load_profile("ovseg")

CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_finish() -> None:
    """Leave the modules and the thousands of tests out of every collection of garbage to come."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let them be freed: libraries count what is left when a process ends."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real images, captions and golden vectors; without it a test skips."""
    folder = os.environ.get("OVSEG_REFERENCE_DATA")
    if not folder:
        pytest.skip("set OVSEG_REFERENCE_DATA to the folder of reference data to run this test")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"OVSEG_REFERENCE_DATA={folder} is not a folder")
    return path


@pytest.fixture(scope="session")
def recording(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Finds "folder/file" among the official implementation's recordings.

    Small ones are kept in `tests/golden`; the others are in the reference data.
    """

    def find(name: str) -> Path:
        if (kept := Path(__file__).parent / "golden" / name).is_file():
            return kept
        reference: Path = request.getfixturevalue("reference_data")
        return reference / "golden" / name

    return find


@pytest.fixture(scope="module")
def browser():
    """Debian's headless chromium, driven by playwright; without either a test skips.

    Each test opens its own context: `browser.new_context(viewport=..., color_scheme="dark")`. Of a
    module, not a session: while it is open this thread has a running event loop, in which a flow of
    another module would not run.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on the path: `apt-get install chromium` to run this test")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=list(CHROMIUM))
        yield started
        started.close()


@pytest.fixture(scope="module")
def bucket() -> Iterator[object]:
    """A file system over an empty bucket `photos`, as `s3://photos` then is for everybody."""
    s3fs = pytest.importorskip("s3fs", reason="install the extra s3, as `make install` does")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    before = {name: os.environ.get(name) for name in made}
    os.environ.update(made)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.mkdir("photos")
    yield fs
    fs.rm("photos", recursive=True)  # moto's buckets outlive its server in one process
    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; without the right to mount one a test skips."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a CLIP of 32-pixel regions with random weights and mask prompts."""
    import torch
    from tiny import clip_config, cut_vocabulary

    from ovseg.models.clip.load import create_clip
    from ovseg.models.clip.save import save_clip

    vocabulary = cut_vocabulary(tmp_path_factory.mktemp("bpe") / "bpe_vocab.txt.gz")
    torch.manual_seed(0)
    config = clip_config(vision={"layers": 2}, text={"context_length": 24})
    model = create_clip(config, prompt_depth=2, vocabulary=vocabulary)
    return save_clip(model, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny_maskformer(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a class-embedding MaskFormer with random weights, for `tiny_clip`'s texts."""
    import torch
    from tiny import INPUTS, SWIN

    from ovseg.models.clip.load import load_clip
    from ovseg.models.maskformer.load import save_maskformer
    from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer

    torch.manual_seed(0)
    network = OpenVocabularyMaskFormer(SWIN.model_copy(update={"depths": (1, 1, 2, 1)}))
    texts = load_clip(str(tiny_clip)).encode_texts(["house", "tree"]).detach()
    with torch.no_grad():  # queries that differ, in shape and in what they say they are
        decoder = network.model.transformer_module
        for weight in (decoder.queries_embedder.weight, *decoder.decoder.parameters()):
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.6)
        network.mask_embed.layers[-1].weight.mul_(30)
        network.class_embed.layers[-1].weight.mul_(2)
        network.class_embed.layers[-1].bias.copy_(texts[0])
        network.non_object_embedding.copy_(texts[:1] + 0.3 * torch.randn(1, 16))
    folder = tmp_path_factory.mktemp("maskformer")
    save_maskformer(
        network,
        folder,
        inputs=INPUTS,
        class_names=["house", "tree"],
        text_embeddings=texts,
    )
    return folder
