"""Variants of flows: the graph that is edited, every edit, and what is promised of what comes out."""

import random

import pytest

from vortex_attention import UserError, _core, flows, load_flow
from vortex_attention.discover import edits, mutate
from vortex_attention.discover.edits import carried, crossing, groups, settings, summaries
from vortex_attention.discover.graph import Graph, ValueType

GEOMETRY = mutate.Geometry(head_dim=64, group=3, value_dim=64, layers=30)
STATES = [name for name in flows.names() if load_flow(name).states]
EDITABLE = [name for name in flows.names() if not load_flow(name).parameters]
PARENTS = [name for name in EDITABLE if name not in ("oracle", "random_pages", "recent_only")]


@pytest.mark.parametrize("name", EDITABLE)
def test_a_graph_builds_the_flow_it_was_taken_from(name):
    program = load_flow(name)
    assert Graph.of(program).build().hash == program.hash


def test_types_are_read_as_the_ir_prints_them():
    assert ValueType.parse("f32[head, token=token/4] @page") == ValueType("f32", ("head", "token"), "page")
    assert ValueType.parse("set[] @page").dtype == "set"
    with pytest.raises(UserError, match="a type like"):
        ValueType.parse("nonsense")


def test_dead_values_and_unread_summaries_are_left_out():
    graph = Graph.of(load_flow("centroid"))
    before = graph.build().values
    key = graph.source("page_k")
    graph.summaries["unread"] = graph.add("max", key, axis="token")
    program = graph.build()
    assert program.values == before and list(program.summaries) == list(load_flow("centroid").summaries)


def test_values_that_stand_on_themselves_are_refused():
    graph = Graph.of(load_flow("centroid"))
    score = graph.roots["score"]
    new = graph.add("exp", score)
    graph.nodes[score].inputs[0] = new
    graph.roots["score"] = new
    with pytest.raises(UserError, match="do not depend on themselves"):
        graph.build()


# Flows that edits with few places in the ready ones have a place in.
SEEDS = {
    "axis": ["quest", "representatives", "sub_envelopes"],
    "flat": ["hierarchical", "centroid_tree"],
    "forget": STATES,
    "sets": ["two_streams"],
    "streams": ["two_streams"],
    "refresh": ["quest", "two_streams"],
}


@pytest.mark.parametrize("edit", edits.EDITS, ids=lambda edit: edit.name)
def test_every_edit_makes_valid_flows_of_another_meaning(edit):
    donors = edits.Around([Graph.of(load_flow(name)) for name in PARENTS], layers=30)
    made = 0
    for seed in range(60):
        rng = random.Random(seed)
        parent = load_flow(rng.choice(SEEDS.get(edit.name, [*PARENTS, "mean_deviation", "two_streams"])))
        graph = Graph.of(parent)
        try:
            if edit.name == "hoist":  # ready flows have nothing left to hoist
                summaries.value_norm(graph, rng, donors)
                parent = graph.build()
            said = edit.apply(graph, rng, donors)
            program = graph.build()
        except (edits.NotHere, UserError):
            continue
        assert said and "\n" not in said
        program.verify_for(GEOMETRY.head_dim, GEOMETRY.group, GEOMETRY.value_dim)
        made += program.hash != parent.hash
    assert made >= 2, f"{edit.name} made {made} other flows of 60 tries"


def test_an_edit_without_a_place_says_so():
    with pytest.raises(edits.NotHere):
        summaries.coarser(Graph.of(load_flow("centroid")), random.Random(0), edits.Around())


def test_the_score_of_a_donor_brings_its_summaries_under_free_names():
    graph, donor = Graph.of(load_flow("quest")), Graph.of(load_flow("quest"))
    graph.roots["score"] = graph.add("add", graph.roots["score"], crossing.graft(graph, donor, donor.roots["score"]))
    assert set(graph.build().summaries) == {"lo", "hi", "lo2", "hi2"}


def test_variants_fit_and_are_unknown():
    rng, known = random.Random(5), set()
    for _ in range(40):
        variant = mutate.vary(
            load_flow(rng.choice(PARENTS)), rng, GEOMETRY, donors=[load_flow("quest")], known=known, name="found"
        )
        if variant is None:
            continue
        assert variant.program.hash not in known and variant.described and variant.program.name == "found"
        mutate.fits(variant.program, GEOMETRY)
        assert _core.parse_flow(variant.program.text()) == variant.program
        known.add(variant.program.hash)
    assert len(known) >= 30


def test_variants_of_one_seed_are_the_same():
    hashes = [
        [mutate.vary(load_flow("slow_means"), rng, GEOMETRY).program.hash for _ in range(5)]
        for rng in (random.Random(9), random.Random(9))
    ]
    assert hashes[0] == hashes[1]


def test_a_summary_as_large_as_the_page_is_refused():
    graph = Graph.of(load_flow("centroid"))
    for index in sorted(graph.live()):
        if graph.nodes[index].op == "mean" and graph.nodes[index].attributes["axis"] == "token":
            graph.nodes[index] = type(graph.nodes[index])("abs", graph.nodes[index].inputs)
    graph.roots["score"] = graph.add("max", graph.roots["score"], axis="token")
    with pytest.raises(UserError, match="summaries below 50%"):
        mutate.fits(graph.build(), GEOMETRY)


def test_a_hierarchy_scores_groups_by_the_same_rule_and_can_be_made_flat_again():
    graph, rng = Graph.of(load_flow("quest")), random.Random(3)
    said = groups.hierarchy(graph, rng, edits.Around())
    program = graph.build()
    assert {"lo", "hi", "group_lo", "group_hi"} == set(program.summaries) and said.startswith("groups of")
    assert any("group(" in kind for kind in program.summaries.values())
    again = Graph.of(program)
    groups.flat(again, rng, edits.Around())
    assert again.build().hash == load_flow("quest").hash


def test_what_is_hoisted_is_a_summary_of_its_own():
    graph = Graph.of(load_flow("quest"))
    summaries.value_norm(graph, random.Random(1), edits.Around())
    before = set(graph.build().summaries)
    summaries.hoist(graph, random.Random(1), edits.Around())
    assert set(graph.build().summaries) - before


def test_state_crosses_with_the_score_that_reads_it():
    donor = next(name for name in STATES if "score" in Graph.of(load_flow(name)).roots)
    graph = Graph.of(load_flow("quest"))
    said = crossing.cross_scores(graph, random.Random(1), edits.Around([Graph.of(load_flow(donor))]))
    assert graph.build().states and "times the score of" in said
    carried.forget(graph, random.Random(1), edits.Around())
    assert not graph.build().states


def test_state_that_is_added_advances():
    graph = Graph.of(load_flow("centroid"))
    carried.gather(graph, random.Random(1), edits.Around())
    graph.build()
    carried.hold(graph, random.Random(1), edits.Around())
    assert set(graph.build().states) == {"gathered", "held"}


def test_layers_that_share_a_set_take_it_from_one_that_chooses():
    for seed in range(20):
        graph = Graph.of(load_flow("quest"))
        settings.reuse(graph, random.Random(seed), edits.Around(layers=30))
        taken = graph.build().config.reuse
        assert (
            taken
            and not set(taken) & set(taken.values())
            and all(source < layer < 30 for layer, source in taken.items())
        )
    with pytest.raises(edits.NotHere):
        settings.reuse(Graph.of(load_flow("quest")), random.Random(0), edits.Around())
