"""What is shown in Prefect's UI, without a server: names, addresses, how often, and what fails."""

import logging
from types import SimpleNamespace
from uuid import uuid4

import pytest
from PIL import Image

import tasks.prefect_page as artifacts
from ovseg.report.embedded import thumbnail_uri


@pytest.mark.parametrize("url", [None, "http://mlflow:5000/#/experiments/7/runs/abc"])
def test_a_link_to_mlflow_where_it_has_pages(url, monkeypatch):
    made = []
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda link, **rest: made.append(link))
    tracked = SimpleNamespace(url=url, run_id="abc")
    artifacts.show_mlflow_run(SimpleNamespace(preset="paper"), tracked)
    assert made == [link for link in (url,) if link]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"preset": "paper", "seed": 3, "overrides": {"seed": 4}}, "paper seed 3"),
        ({"preset": "storybook", "seed": None, "overrides": {"seed": 4}}, "storybook seed 4"),
        ({"preset": "storybook", "seed": None, "overrides": None}, "storybook seed 0"),
        ({"preset": "storybook"}, "storybook seed 0"),
    ],
)
def test_a_run_is_named_by_preset_and_seed(parameters, name, monkeypatch):
    monkeypatch.setattr(artifacts, "flow_run", SimpleNamespace(parameters=parameters))
    assert artifacts.run_name() == name


@pytest.fixture
def server(monkeypatch):
    """What reaches the server: (kind, percent, description)."""
    sent = []

    def create(percent, *, description, _sync):
        sent.append(("create", percent, description))
        return uuid4()

    def update(artifact, percent, *, description, _sync):
        sent.append(("update", percent, description))

    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", update)
    return sent


def test_a_short_stage_costs_two_requests(server, monkeypatch):
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: 0.0)
    with artifacts.progress_artifact("find nouns", 4000) as advance:
        for _ in range(4000):
            advance(1)
    assert server == [
        ("create", 0.0, "find nouns: 0 of 4,000"),
        ("update", 100.0, "find nouns: 4,000 of 4,000"),
    ]


def test_a_long_stage_is_updated_now_and_then(server, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: now[0])
    with artifacts.progress_artifact("propose masks", 36_000) as advance:
        for _ in range(36_000):  # ten hours, a second an image
            now[0] += 1.0
            advance(1)
    updates = [percent for kind, percent, _ in server if kind == "update"]
    assert updates == sorted(updates) and updates[-1] == 100.0
    assert 550 < len(updates) < 700  # one a minute, more often in the beginning


def test_a_stage_that_fails_does_not_claim_to_be_done(server):
    with pytest.raises(OSError), artifacts.progress_artifact("pair", 10) as advance:
        advance(5)
        raise OSError("disk")
    assert [kind for kind, *_ in server] == ["create"]


def test_a_server_that_fails_is_a_warning(server, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise ConnectionError("server gone\nand more")

    log = logging.getLogger("test_artifacts")
    monkeypatch.setattr(artifacts, "get_run_logger", lambda: log)
    monkeypatch.setattr(artifacts, "create_progress_artifact", refuse)
    with caplog.at_level("WARNING"), artifacts.progress_artifact("pair", 10) as advance:
        advance(10)
    assert caplog.messages == [
        "create_progress: not shown in Prefect, the run continues: ConnectionError: server gone"
    ]
    assert server == []  # what was never created is not updated


def test_a_server_that_dies_is_asked_once_more(server, monkeypatch, caplog):
    now, asked = [0.0], []

    def refuse(*args, **kwargs):
        asked.append(now[0])
        raise ConnectionError("server gone")

    monkeypatch.setattr(artifacts.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(artifacts, "get_run_logger", lambda: logging.getLogger("test_artifacts"))
    monkeypatch.setattr(artifacts, "update_progress_artifact", refuse)
    with caplog.at_level("WARNING"), artifacts.progress_artifact("pair", 100) as advance:
        for _ in range(100):
            now[0] += 10.0
            advance(1)
    assert asked == [10.0] and len(caplog.messages) == 1


def test_a_thumbnail_is_as_wide_as_asked_and_never_wider_than_the_picture(tmp_path):
    import base64
    import io

    Image.new("RGB", (800, 1200), "teal").save(tmp_path / "picture.png")
    for width, size in ((200, (200, 300)), (2000, (800, 1200))):
        kind, data = thumbnail_uri(tmp_path / "picture.png", width=width).split(",")
        assert kind == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == size
