"""Workers on Ray: a local cluster of several processes, one of which is killed in the middle."""

import os
import signal
import threading
import time

import pytest

from vortex_attention import UserError
from vortex_attention.discover import device
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.study import Study
from vortex_attention.ledger import Ledger

WORKLOAD = Workload(screen_items=4, gate_items=16, confirm_items=16)
ENVIRONMENT = {"device": "null", "commit": "0", "dirty": False}


def test_ray_that_is_not_installed_is_said(monkeypatch):
    from vortex_attention.discover import cluster

    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(
        UserError,
        match=r"\[--ray\] ray for workers in other processes; it is not installed; pip install 'vortex-attention\[ray\]'",
    ):
        cluster.Cluster(lambda: None, 2)


def test_a_worker_times_a_flow_beside_a_rival():
    """Both come as text; what it gives is what the laboratory gives here."""
    from vortex_attention.discover.cluster import Hands
    from vortex_attention.flows import ready

    hands, flow, rival = Hands(lambda: NullLaboratory(WORKLOAD)), ready("quest"), ready("centroid")
    assert hands.facts()["workload"] == WORKLOAD
    for beside in ((), (rival,)):
        number = hands.begin("speed", flow.text(), 2, 5, *(one.text() for one in beside))
        assert number in hands.timed
        assert [hands.next(number) for _ in range(3)] == [*NullLaboratory(WORKLOAD).speed(flow, 2, 5, *beside), None]
        hands.end(number)
    assert not hands.open and not hands.timed


def test_whoever_judges_by_a_remote_worker_holds_no_machine_here(tmp_path, monkeypatch):
    """The worker holds its own: where both are one machine, each would wait for the other for ever."""
    from vortex_attention.discover.cluster import Remote

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with device.held("confirm", object.__new__(Remote)):
        assert list(tmp_path.iterdir()) == []
    with device.held("confirm", object()):
        assert len(list(tmp_path.iterdir())) == 1


def outcome_of(study):
    return {proposal.id: (proposal.flow_hash, proposal.hypothesis, {gate: (verdict.status, verdict.reason) for gate, verdict in gates.items()})
            for proposal in study.proposals() for gates in [study.verdicts().get(proposal.id, {})]}  # fmt: skip


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_and_doubles_nothing(tmp_path):
    pytest.importorskip("ray", reason="ray is an optional extra and not installed here")
    from vortex_attention.discover.cluster import Cluster, ClusterCampaign

    workload = WORKLOAD

    def make():  # sent to the workers as it stands
        import time

        from vortex_attention.discover.null import NullLaboratory

        class Slow(NullLaboratory):
            timing = True  # a worker holds its machine for what it times

            def accuracy(self, program, part, seed=0):
                for batch in super().accuracy(program, part, seed):
                    time.sleep(0.1)
                    yield batch

        return Slow(workload)

    with Ledger.open(tmp_path / "alone") as ledger:
        alone = Campaign(Study.open(ledger, "one", {"seed": 1}), NullLaboratory(WORKLOAD), environment=ENVIRONMENT)
        alone.run(1, 4, 1)
        expected, confirmed = outcome_of(alone.study), alone.confirm()

    def refuses():
        from vortex_attention.errors import UserError

        raise UserError("discover", "at most 8 tokens", "9 tokens", "lower --length")

    with (
        pytest.raises(UserError, match=r"\[discover\] at most 8 tokens; 9 tokens; lower --length"),
        Cluster(refuses, 1),
    ):
        pass
    with Ledger.open(tmp_path / "cluster") as ledger, Cluster(make, 3) as cluster:
        campaign = ClusterCampaign(Study.open(ledger, "one", {"seed": 1}), cluster, environment=ENVIRONMENT)
        processes = {hand.process for hand in cluster.hands}
        assert len(processes) == 3 and os.getpid() not in processes
        victim = cluster.hands[1].process

        def kill():
            with Ledger.open(tmp_path / "cluster") as watched:
                while watched.rows("SELECT count(*) AS n FROM verdict WHERE gate = 'screen'")[0]["n"] < 2:
                    time.sleep(0.02)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        campaign.run(1, 4, 1)
        killer.join(60)
        assert cluster.lost >= 1 and victim not in {hand.process for hand in cluster.hands}
        assert outcome_of(campaign.study) == expected
        assert campaign.confirm() == confirmed
        assert not ledger.check()
        assert max(row["n"] for row in ledger.rows("SELECT count(*) AS n FROM verdict GROUP BY proposal, gate")) == 1
