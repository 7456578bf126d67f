"""Variants of flows: the graph that is edited, every edit, and what is promised of what comes out."""

import random

import pytest

from vortex_attention import UserError, _core, flows, load_flow
from vortex_attention.discover import edits, mutate
from vortex_attention.discover.graph import Graph, ValueType

GEOMETRY = mutate.Geometry(head_dim=64, group=3, value_dim=64)
STATES = [name for name in flows.names() if load_flow(name).states]
EDITABLE = [name for name in flows.names() if name not in STATES]
PARENTS = [name for name in EDITABLE if name not in ("oracle", "random_pages", "recent_only")]


@pytest.mark.parametrize("name", STATES)
def test_a_flow_with_state_is_refused_in_words(name):
    with pytest.raises(UserError, match="with states; search from another flow"):
        Graph.of(load_flow(name))


def test_flows_that_cannot_be_edited_are_no_donors():
    rng = random.Random(1)
    assert mutate.vary(load_flow("quest"), rng, GEOMETRY, donors=[load_flow(STATES[0])]) is not None


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


@pytest.mark.parametrize("edit", edits.EDITS, ids=lambda edit: edit.name)
def test_every_edit_makes_valid_flows_of_another_meaning(edit):
    donors = [Graph.of(load_flow(name)) for name in PARENTS]
    made = 0
    for seed in range(60):
        rng = random.Random(seed)
        parent = load_flow(rng.choice([*PARENTS, "mean_deviation", "two_streams"]))
        graph = Graph.of(parent)
        try:
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
        edits.coarser(Graph.of(load_flow("centroid")), random.Random(0), [])


def test_the_score_of_a_donor_brings_its_summaries_under_free_names():
    graph, donor = Graph.of(load_flow("quest")), Graph.of(load_flow("quest"))
    graph.roots["score"] = graph.add("add", graph.roots["score"], edits.graft(graph, donor, donor.roots["score"]))
    assert set(graph.build().summaries) == {"lo", "hi", "lo2", "hi2"}


def test_variants_fit_and_are_unknown():
    rng, known = random.Random(5), set()
    for _ in range(40):
        variant = mutate.vary(load_flow(rng.choice(PARENTS)), rng, GEOMETRY, donors=[load_flow("quest")], known=known, name="found")
        if variant is None:
            continue
        assert variant.program.hash not in known and variant.described and variant.program.name == "found"
        mutate.fits(variant.program, GEOMETRY)
        assert _core.parse_flow(variant.program.text()) == variant.program
        known.add(variant.program.hash)
    assert len(known) >= 30


def test_variants_of_one_seed_are_the_same():
    hashes = [[mutate.vary(load_flow("slow_means"), rng, GEOMETRY).program.hash for _ in range(5)] for rng in (random.Random(9), random.Random(9))]
    assert hashes[0] == hashes[1]


def test_a_summary_as_large_as_the_page_is_refused():
    graph = Graph.of(load_flow("centroid"))
    for index in sorted(graph.live()):
        if graph.nodes[index].op == "mean" and graph.nodes[index].attributes["axis"] == "token":
            graph.nodes[index] = type(graph.nodes[index])("abs", graph.nodes[index].inputs)
    graph.roots["score"] = graph.add("max", graph.roots["score"], axis="token")
    with pytest.raises(UserError, match="summaries below 50%"):
        mutate.fits(graph.build(), GEOMETRY)
