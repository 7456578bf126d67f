"""What `vortex discover` shows while it runs: bars on a terminal, lines in a log."""

import io

import pytest
from rich.console import Console

from vortex_attention.cli.study_progress import STEPS, StudyReporter
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.study import Study
from vortex_attention.ledger import Ledger


def test_bars_on_a_terminal():
    screen = io.StringIO()
    with StudyReporter(4, Console(file=screen, force_terminal=True, width=100)) as reporter:
        reporter("items of gate", 3, 24)
        now = reporter.bars.tasks[reporter.now]
        assert (now.description, now.completed, now.total, now.visible) == ("items of gate", 3, 24, True)
        reporter("round 0", 8, 8)
        assert (
            reporter.bars.tasks[reporter.all].completed == STEPS
            and reporter.bars.tasks[reporter.all].fields["count"] == "0/4"
        )
        reporter("round 2", 1, 4)
        assert (
            reporter.bars.tasks[reporter.all].completed == 2.25 * STEPS
            and reporter.bars.tasks[reporter.all].total == 5 * STEPS
        )
        assert (
            reporter.bars.tasks[reporter.round].description == "round 2"
            and not reporter.bars.tasks[reporter.now].visible
        )
        reporter("proposal 12: gate, items", 8, 24)
        assert len(reporter.bars.tasks) == 3
        reporter("[red]x", 0, 1)
    said = screen.getvalue()
    assert "rounds" in said and "proposal 12: gate, items" in said and "8/24" in said and "[red]x" in said


def test_lines_in_a_log(capsys):
    with StudyReporter(1, Console(file=io.StringIO())) as reporter:
        for what, done, of in (
            ("round 1", 0, 4),
            ("round 1", 0, 4),
            ("proposal 9: gate, items", 8, 24),
            ("round 1", 1, 4),
            ("proposals", 0, 0),
        ):
            reporter(what, done, of)
    assert [line.split("s] ")[1] for line in capsys.readouterr().err.splitlines()] == ["round 1 0/4", "round 1 1/4"]


@pytest.mark.slow
def test_a_campaign_says_what_it_is_at(tmp_path):
    said = []
    workload = Workload(screen_items=4, gate_items=16, confirm_items=16)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        study = Study.open(ledger, "one", {"seed": 1})
        campaign = Campaign(
            study,
            NullLaboratory(workload),
            lambda *row: said.append(row),
            {"device": "null", "commit": "0", "dirty": False},
        )
        campaign.run(0, 4, seed=1)
        campaign.confirm()
    first = study.proposals()[0].id
    assert [row for row in said if row[0] == f"proposal {first}: gate, items"][:2] == [
        (f"proposal {first}: gate, items", done, 16) for done in (0, 8)
    ]
    assert (f"proposal {first}: blocks", workload.rounds, workload.rounds) in said and any(
        ": confirm, items" in row[0] for row in said
    )
