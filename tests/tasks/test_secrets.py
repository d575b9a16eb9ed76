"""No password that a run is told is in what it leaves."""

import sys

from ovseg.config.data import ImagesConfig
from ovseg.config.presets import load_preset
from ovseg.stages.run import _write_run
from tasks.tracking.tracked_run import track

SECRETS = ("hunter2", 'quo"te', "sl/ash", "bl ank", "sig-nature")
ADDRESS = f"http://me:{'@'.join(SECRETS)}@127.0.0.1:9/?X-Amz-Signature={SECRETS[4]}"


def test_secrets_of_a_run_are_nowhere_in_its_results(tmp_path, monkeypatch):
    words = ["run", "--tracking", ADDRESS, f"--set=a.b={ADDRESS}"]
    monkeypatch.setattr(sys, "argv", ["ovseg", *words])
    config = load_preset("storybook").changed("tracking", uri=ADDRESS)
    images = ImagesConfig().model_copy(update={"captions": ADDRESS})
    with track("run", root=tmp_path) as run:
        run.params(config)
        run.values({"address": ADDRESS, "deep": {"list": [ADDRESS]}})
        run.tags({"address": ADDRESS})
        _write_run(tmp_path, images, (), ())
        run.file(tmp_path / "run.json")
        run.report(OSError(f"no answer from {ADDRESS}"), what="metrics")
    written = b"\n".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written.count(b"http://127.0.0.1:9/") > 5, "addresses themselves are written"
    for secret in SECRETS:
        assert secret.encode() not in written
        assert secret.replace('"', '\\"').encode() not in written
