"""The agents that need no language model: what they propose, that it is new, and that equal seeds propose the same."""

import random
from types import SimpleNamespace

import pytest

from vortex_attention import UserError, load_flow
from vortex_attention.discover import agents, mutate
from vortex_attention.discover.agents import knobs, random_programs
from vortex_attention.discover.agents.built_in import BuiltIn
from vortex_attention.discover.archive import Known, cell, known
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.graph import Graph
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.study import Study
from vortex_attention.discover.surrogate import MIN_SEEN, Surrogate
from vortex_attention.ledger import Ledger

WORKLOAD = Workload(screen_items=4, gate_items=8, confirm_items=16)
GEOMETRY = NullLaboratory(WORKLOAD).geometry


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def campaign_of(ledger, name, agent):
    study = Study.open(ledger, name, {"seed": 1})
    return Campaign(
        study, NullLaboratory(WORKLOAD), environment={"device": "null", "commit": "0", "dirty": False}, agent=agent
    )


def test_an_unknown_agent_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r'--agent.*one of built-in, random, knobs, openai.*did you mean "random"'):
        agents.make("randon", 1)
    with pytest.raises(UserError, match=r"--knobs.*one of edits, tpe, nsga2"):
        agents.make("knobs", 1, sampler="grid")


def test_random_programs_fit_and_differ():
    rng, seen = random.Random(1), set()
    for _ in range(40):
        program = random_programs.draw(rng, GEOMETRY, known=seen)
        mutate.fits(program, GEOMETRY)
        assert program.hash not in seen and program.scores
        seen.add(program.hash)
    assert len({cell(random_programs.draw(rng, GEOMETRY)) for _ in range(40)}) >= 5


@pytest.mark.parametrize("name", ["built-in", "random", "knobs"])
def test_equal_seeds_propose_the_same_and_others_do_not(ledger, name):
    made = []
    for study, seed in (("a", 1), ("b", 1), ("c", 2)):
        campaign = campaign_of(ledger, study, agents.make(name, seed))
        campaign.run(1, 4, seed)
        made.append([proposal.flow_hash for proposal in campaign.study.proposals() if proposal.round == 2])
        assert len(made[-1]) == len(set(made[-1])) == 4
    assert made[0] == made[1] != made[2]


def test_a_search_from_nothing_begins_with_random_programs_and_goes_on_with_edits(ledger):
    campaign = campaign_of(ledger, "none", BuiltIn(3))
    campaign.run(4, 4, 3, ready=False)
    proposals = campaign.study.proposals()
    assert proposals[0].round == 2 and "nothing is known yet" in proposals[0].hypothesis
    assert not any(proposal.author == "ready" for proposal in proposals)
    assert any(proposal.parents for proposal in proposals)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_optuna_searches_the_numbers_of_one_structure(ledger, sampler):
    pytest.importorskip("optuna", reason="optuna is an optional extra and not installed here")
    made = []
    for study in ("a", "b"):
        campaign = campaign_of(ledger, study, agents.make("knobs", 1, sampler=sampler))
        campaign.run(2, 4, 1)
        found = [proposal for proposal in campaign.study.proposals() if proposal.round > 1]
        assert len(found) >= 6 and all(f"{sampler} says" in proposal.hypothesis for proposal in found)
        for proposal in found:
            parent = next(one for one in campaign.study.proposals() if one.id == proposal.parents[0])
            assert knobs._shape(campaign.study.program(proposal)) == knobs._shape(campaign.study.program(parent))
        made.append([proposal.flow_hash for proposal in found])
    assert made[0] == made[1]


def test_optuna_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna for tpe and nsga2.*it is not installed.*vortex-attention\[search\]"):
        agents.make("built-in", 1, sampler="tpe")


def known_of(screened):
    programs = {number: load_flow(name, budget=budget) for number, (name, budget, _) in enumerate(screened)}
    return Known([], {}, set(), {}, {number: gain for number, (_, _, gain) in enumerate(screened)}, programs)


def test_the_surrogate_is_silent_until_it_knows_something_and_then_orders_flows_like_those_it_saw():
    few = [("centroid", 16, -0.9), ("centroid", 128, -0.1)]
    assert Surrogate(known_of(few)).gain(load_flow("centroid")) is None
    many = [
        (name, budget, -6.0 / budget) for name in ("centroid", "quest", "mean_deviation") for budget in (8, 32, 128)
    ]
    assert len(many) >= MIN_SEEN
    guide = Surrogate(known_of(many))
    assert (
        guide.gain(load_flow("quest", budget=10))
        < guide.gain(load_flow("quest", budget=40))
        < guide.gain(load_flow("quest", budget=100))
    )


def test_a_cell_is_known_by_its_best_and_counts_what_was_stopped(ledger):
    campaign = campaign_of(ledger, "archive", BuiltIn(1))
    campaign.run(2, 4, 1)
    now = known(campaign.study, campaign.points())
    assert sum(now.tried().values()) == len(now.programs) >= len(now.standing)
    for flows in now.cells().values():
        worth = [now.worth(proposal.id) for proposal, _ in flows]
        assert worth == sorted(worth, reverse=True)


def test_cells_tell_kinds_of_flows_apart():
    kinds = [
        cell(load_flow(name))
        for name in ("centroid", "quest", "hierarchical", "hysteresis", "slow_means", "centroid_rest")
    ]
    assert len(set(kinds)) == len(kinds)
    assert cell(load_flow("quest")) != cell(load_flow("quest", refresh_every=4))
    assert Graph.of(load_flow("quest", reuse={5: 4})).build().config.reuse == {5: 4}


def test_a_flow_that_a_graph_cannot_hold_is_nobodys_parent(ledger, monkeypatch):
    with_weights = SimpleNamespace(json=lambda: '{"vortex_ir": 1, "values": [], "weights": {"file": "w"}}')
    assert not Graph.holds(with_weights) and Graph.holds(load_flow("hysteresis"))
    held = Graph.holds
    monkeypatch.setattr(Graph, "holds", staticmethod(lambda program: program.name != "Quest" and held(program)))
    campaign = campaign_of(ledger, "weights", BuiltIn(1))
    campaign.run(1, 4, 1)
    now = known(campaign.study, campaign.points())
    quest = next(proposal for proposal in campaign.study.proposals() if proposal.flow_hash == load_flow("quest").hash)
    assert quest.id not in now.programs and quest.flow_hash in now.hashes
    assert sum(proposal.round == 2 for proposal in campaign.study.proposals()) == 4
    assert not any(quest.id in proposal.parents for proposal in campaign.study.proposals())
