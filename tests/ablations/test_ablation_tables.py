"""The tables of ablations: every cell of every preset is a run; what they share counts once."""

import os
from pathlib import Path

import pytest

from ovseg.ablations.cells import ALL_CLASSES, Cell
from ovseg.ablations.listing import list_lines
from ovseg.ablations.plan import cell_config, cost, plan_ablations, rounds
from ovseg.ablations.tables.registry import TABLES, chosen_tables
from ovseg.comparison.findings import METRICS
from ovseg.config.mining import load_curation
from ovseg.config.request import resolve
from ovseg.errors import OvsegError


@pytest.fixture(scope="module")
def storybook():
    return plan_ablations(TABLES, "storybook", seeds=3)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Every cell over captions, images and one benchmark folder that are merely there."""
    home = tmp_path_factory.mktemp("paper")
    (home / "images").mkdir()
    (home / "captions.json").write_text("{}")
    for name in ("labels", "data/ade20k-150"):
        (home / name).mkdir(parents=True)
    overrides = {
        "data.prepared": str(home / "data"),
        "data.labels": str(home / "labels"),
        "data.captions_per_image": 5,
    }
    given = {"captions": home / "captions.json", "images": home / "images"}
    return plan_ablations(TABLES, "paper", seeds=1, overrides=overrides, **given)


@pytest.mark.parametrize("preset", ["storybook", "paper"])
def test_every_cell_is_a_whole_run_of_one_model(preset, request):
    plan = request.getfixturevalue(preset)
    for run in plan.runs:
        assert list(run.config.arms) == [run.arm]
        assert [phase.trains for phase in run.config.phases[run.arm]] == [
            phase["trains"] for phase in run.cell.trains
        ]
        assert not any(phase.snapshots for phase in run.config.arms[run.arm])
        load_curation(run.config.curation)
        assert run.config.benchmarks
    names = {run.arm for run in plan.runs}
    assert len(names) == sum(len(table.of(preset).cells) for table in TABLES.values())
    for table in TABLES.values():
        own = table.of(preset)
        assert own.reference in own.cells and len(own.cells) > 1
        assert own.expect and own.cost and own.question


def test_paper_cells_train_and_pair_by_the_papers_models(paper):
    phases = [phase for run in paper.runs for phase in run.config.phases[run.arm]]
    assert {phase.clip for phase in phases} == {"ViT-L-14-quickgelu/openai"}
    rates = {phase.trains: phase.learning_rate for phase in phases}
    assert rates["image_encoder"] == rates["joint"] == rates["joint_pixel_prompts"] == 5e-6
    assert rates["mask_prompts"] == 2e-2
    assert rates["visual_prompts"] == rates["pixel_prompts"] == 2e-2
    assert {p.prompt_learning_rate for p in phases if p.trains == "joint"} == {2e-2}
    depths = {p.prompt_depth for run in paper.runs for p in run.config.arms[run.arm]}
    assert {1, 3, 6, 12} <= depths
    (planned,) = [one for one in paper.tables if one.name == "depth"]
    assert "depth-2" not in planned.table.cells, "the storybook's depths are not the paper's"


def test_claims_name_cells_that_run_with_every_seed():
    claims = [(table, claim) for table in TABLES.values() for claim in table.claims]
    assert len({claim.name for _, claim in claims}) == len(claims) >= 8
    for table, claim in claims:
        for one in (comparison for way in claim.ways for comparison in way):
            assert one.metric in METRICS
            for name in (one.better, one.worse):
                assert table.cells[name].repeated


def test_claims_are_judged_by_the_metric_the_page_says():
    named = {"source": "miou_union_unseen", "crops": "mask_acc"}
    for name, table in TABLES.items():
        judged = {one.metric for claim in table.claims for way in claim.ways for one in way}
        assert judged <= {named.get(name, ALL_CLASSES)}, name


def test_seeds_share_a_root_and_their_data(storybook):
    for seed in (0, 1, 2):
        runs = [run for run in storybook.runs if run.config.seed == seed]
        assert {run.config.root for run in runs} == {storybook.root / f"seed-{seed}"}
        assert len({run.config.data.mining_world for run in runs}) == 1
    assert storybook.root.name == "storybook-ablations"
    keys = [(run.table, run.key) for run in storybook.runs]
    assert len(set(keys)) == len(keys)
    assert {run.config.seed for run in storybook.runs if not run.cell.repeated} == {0}


def test_equal_steps_of_two_tables_count_once(storybook):
    by_table = {planned.name: cost(planned.runs) for planned in storybook.tables}
    whole = cost(storybook.runs)
    assert whole.trainings < sum(one.trainings for one in by_table.values())
    # original, prompts, fine-tuned and both: three phases are distinct, for each of three seeds
    assert (by_table["ft-mpt"].trainings, by_table["ft-mpt"].benchmarks) == (9, 12)
    both = [run for run in storybook.runs if run.table in ("ft-mpt", "order")]
    added = cost(both).trainings - by_table["ft-mpt"].trainings
    assert added == 3 * 2, "of the order, prompts then fine-tuning and both at once are new"
    # the seed of 3 runs: labels, nouns on true masks, one mining for all proposals
    (source,) = [planned for planned in storybook.tables if planned.name == "source"]
    assert cost([run for run in source.runs if run.config.seed == 0]).minings == 3


def test_a_cell_is_mined_round_by_round(storybook):
    (run,) = [r for r in storybook.runs if r.arm == "rounds-round-2"]
    assert [config.pairing.round for config in rounds(run.config)] == [0, 1, 2]
    (original,) = [r for r in storybook.runs if r.arm == "rounds-original" and not r.config.seed]
    assert rounds(original.config) == []


def test_what_the_user_sets_holds_but_for_what_the_cell_is_about():
    overrides = {"arms.epochs": 1, "benchmarks.ensemble": "geometric", "benchmarks.limit": 3}
    plan = plan_ablations(chosen_tables(["ensemble"]), "storybook", seeds=1, overrides=overrides)
    modes = {run.name: run.config.benchmarks[0].ensemble for run in plan.runs}
    assert modes["maskformer"] == "maskformer_only" and modes["adapted-both"] == "geometric"
    assert {run.config.benchmarks[0].limit for run in plan.runs} == {3}
    assert {p.epochs for run in plan.runs for p in run.config.arms[run.arm]} == {1}


def test_a_wrong_cell_or_name_is_one_line():
    with pytest.raises(OvsegError, match=r"unknown ablation 'nothing': choose one of source, "):
        chosen_tables(["ensemble", "nothing"])
    base = resolve("storybook")
    with pytest.raises(OvsegError, match=r"no setting named 'benchmarks\.colour'"):
        cell_config(base, "t", "c", Cell(title="x", settings={"benchmarks.colour": 1}))
    bare = base.model_copy(update={"arms": {"original": ()}})
    with pytest.raises(OvsegError, match="trains no arm as image_encoder is trained"):
        cell_config(bare, "t", "c", Cell(title="x", trains=({"trains": "image_encoder"},)))
    with pytest.raises(OvsegError, match="leave the seed out"):
        plan_ablations(TABLES, "storybook", seeds=2, seed=1)


def test_what_would_train_or_score_something_else_is_refused_before_it_starts(tmp_path):
    (tmp_path / "captions.json").write_text("{}")
    (tmp_path / "data" / "ade20k-150").mkdir(parents=True)
    given = {"captions": tmp_path / "captions.json", "images": tmp_path, "seeds": 1}
    with pytest.raises(OvsegError, match="no benchmark to score cells on: give --data FOLDER"):
        plan_ablations(chosen_tables(["prompts"]), "paper", **given)
    data = {"data.prepared": str(tmp_path / "data")}
    tables = chosen_tables(["captions"])
    with pytest.raises(OvsegError, match=r"1 per image is read: give --set data\.captions"):
        plan_ablations(tables, "paper", overrides=data, **given)
    for read in (5, None):
        enough = {**data, "data.captions_per_image": read}
        assert plan_ablations(tables, "paper", overrides=enough, **given).tables[0].runs


def test_no_two_cells_of_a_table_are_the_same(storybook, paper):
    for plan in (storybook, paper):
        for planned in plan.tables:
            cells = [
                (run.config.seed, *run.config.replaced({"arms": phases}).result_fields().items())
                for run in planned.runs
                for phases in [{"arm": tuple(p.model_dump() for p in run.config.arms[run.arm])}]
            ]
            assert len({repr(cell) for cell in cells}) == len(cells), planned.name


def test_the_list_says_what_there_is_and_what_it_costs():
    text = "\n".join(list_lines(None, "storybook", seeds=3))
    for name, table in TABLES.items():
        assert f"{name}: {table.title}" in text and table.expect in text
    assert "published (Table 4, A-150):" in text and "adapted | 19.6 | 25.1 | 29.6" in text
    assert text.splitlines()[-1].startswith("all of these on the storybook: ")
    paper = "\n".join(list_lines(["depth"], "paper", seeds=1))
    assert "depth-12" in paper and "depth-2:" not in paper and "on the storybook" not in paper


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("order", "  - mpt: mask prompts (every seed) trains mask_prompts"),
        ("order", "  - joint: both at once (every seed) trains joint"),
        (
            "order",
            "  - ft-mpt: fine-tuned, then prompts (every seed) trains image_encoder, then"
            " mask_prompts",
        ),
        (
            "depth",
            "  - ft-depth-12: fine-tuned, depth 12 (seed 0) trains image_encoder, then mask_prompts"
            " prompt_depth=12",
        ),
        (
            "rounds",
            "  - round-1: paired again by that (seed 0) mining.round=1 trains image_encoder",
        ),
        ("rounds", "  - original: original CLIP (every seed)"),
    ],
)
def test_the_list_says_what_a_cell_trains(table, line):
    assert line in list(list_lines([table], "paper", seeds=1))


def test_an_ablation_has_no_favorite(storybook):
    for planned in storybook.tables:
        config = planned.comparison("storybook", [run.key for run in planned.runs])
        assert config.favorite == "" and config.level == 0.95
        assert config.table == planned.name and config.claims == planned.table.claims


def test_the_command_lists_without_running(capsys):
    from ovseg.cli.ablations import check_request

    request = {"preset": "storybook", "root": None, "overrides": {}}
    assert not check_request(request, ["crops"], seeds=1, listed=True)
    assert "crops: How a region is shown to CLIP" in capsys.readouterr().out
    assert not check_request(request, None, seeds=1, listed=False)
    assert check_request(request, ["crops"], seeds=1, listed=False)
    with pytest.raises(OvsegError, match="unknown ablation 'crop'"):
        check_request(request, ["crop"], seeds=1, listed=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--preset nonsense", "unknown preset 'nonsense': choose one of storybook, paper, "),
        ("all --list --preset nonsense", "unknown preset 'nonsense': choose one of storybook, "),
        ("crop --list", "unknown ablation 'crop': choose one of source, "),
        ("--list --set benchmarks.nonsense=1", "no setting named 'benchmarks.nonsense': `ovseg "),
        ("--list --set benchmarks.relations=2", "setting benchmarks.0.relations: "),
        ("--set benchmarks.prompting=nonsense", "benchmarks.prompting: unknown name 'nonsense'; "),
        ("--system nonsense", "benchmarks.system: unknown name 'nonsense'; choose one of ovseg, "),
        ("--preset paper --system nonsense", "benchmarks.system: unknown name 'nonsense'; "),
        ("ensemble --list --seeds 0", "--seeds 0: give how many seeds to run, at least 1"),
    ],
)
def test_a_wrong_request_for_the_list_is_one_line_and_no_list(words, message, capsys, monkeypatch):
    from flows.cli import main

    monkeypatch.setattr("sys.argv", ["ovseg", "ablate", *words.split()])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == 2 and out == ""
    assert err.startswith(f"ovseg: {message}") and err.count("\n") == 1


def test_the_list_of_a_preset_over_own_images_needs_none(capsys):
    from ovseg.cli.ablations import check_request

    request = {"preset": "paper", "root": None, "overrides": {"benchmarks.prompting": "learned"}}
    assert not check_request(request, ["depth"], seeds=1, listed=True)
    assert "depth-12" in capsys.readouterr().out


def test_a_page_among_the_results_is_refused(tmp_path):
    from ovseg.cli.ablations import check_request

    request = {"preset": "storybook", "root": tmp_path / "runs", "overrides": {}}
    with pytest.raises(OvsegError, match=r"--out .*/runs/ablations\.md lies among the results"):
        check_request(
            request, ["crops"], seeds=1, listed=False, out=tmp_path / "runs" / "ablations.md"
        )
    assert check_request(request, ["crops"], seeds=1, listed=False, out=tmp_path / "ablations.md")
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "ablations.md"):
        with pytest.raises(OvsegError, match="cannot be a file"):
            check_request(request, ["crops"], seeds=1, listed=False, out=place)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda home: (home / "docs").mkdir(), ""),  # an empty folder is nobody's
        (lambda home: write(home / "docs" / "thesis.txt"), r"docs exists, but .* did not make it"),
        (lambda home: write(home / "docs.md"), r"docs\.md already exists and was not made by"),
        (lambda home: write(home / "docs"), "docs exists and is not a folder"),
        (lambda home: write(home / "docs" / "ovseg-files.json"), "is damaged"),
        (lambda home: (home / "docs").symlink_to(home), "docs is a symbolic link"),
        (lambda home: (home / "docs.md").symlink_to(home / "x"), r"docs\.md is a symbolic link"),
        (lambda home: (home / "docs.md").mkdir(), "cannot be a file"),
        (lambda home: os.mkfifo(home / "docs.md"), "is a device or a pipe"),
    ],
)
def test_a_page_that_would_replace_what_is_not_its_own_is_refused_first(tmp_path, make, reason):
    from ovseg.cli.ablations import check_request

    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    request = {"preset": "storybook", "root": tmp_path / "runs", "overrides": {}}
    asked = {"seeds": 1, "listed": False, "out": tmp_path / "docs.md"}
    if reason:
        with pytest.raises(OvsegError, match=reason) as error:
            check_request(request, ["crops"], **asked)
        assert "\n" not in str(error.value)
    else:
        assert check_request(request, ["crops"], **asked)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_without_a_suffix_is_its_own_folder_of_plots(tmp_path):
    from ovseg.cli.ablations import check_request

    request = {"preset": "storybook", "root": tmp_path / "runs", "overrides": {}}
    with pytest.raises(
        OvsegError, match=r"cannot be a file: name a page, such as docs/ablations\.md"
    ):
        check_request(request, ["crops"], seeds=1, listed=False, out=tmp_path / "page")


def write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("years of work")


def test_the_page_of_this_repository_may_be_written_anew():
    from ovseg.ablations.plan import check_page

    check_page(Path(__file__).resolve().parents[2] / "docs" / "ablations.md")
