"""92 copies of one flow under disguises are answered by one entry of the ledger: no copy is measured."""

import itertools
import random

import pytest

from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.intake import draft
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.study import ANSWERED, PASSED, Study
from vortex_attention.ledger import Ledger

COPIES = 92

SOURCE = '''import vortex_attention as vx
{top}
class {name}(vx.vFlow):
    """{doc}"""
    {settings}

    def summarize(self, page):
{summaries}

    def score(self, q, page):
{body}
'''

# What stands in place of each part; every choice means the same.
LOW, HIGH = (
    ('page.k.min("token")', '-(-page.k.min("token"))', 'page.k.min("token") + 0.0'),
    ('page.k.max("token")', 'page.k.max("token") * 1.0'),
)
BOUND = (
    "vx.maximum(q * page.{lo}, q * page.{hi})",
    "vx.maximum(page.{hi} * q, page.{lo} * q)",
    "vx.maximum(q * page.{lo}, page.{hi} * q)",
    "vx.maximum(-(-(page.{hi} * q)), q * page.{lo})",
)
RANK = (
    "{x}",
    "{x} * 3.0",
    "0.25 * {x}",
    "{x} + layer_index",
    "{x}.exp()",
    "({x} * 2.0).exp() * 5.0",
    "(4.0 + {x} * 2.0).sigmoid()",
    "{x}.tanh()",
)
DEAD = (
    "",
    "unused = q.sum('dim') * 2.0",
    "for i in range(4): spare = q * float(i)",
    "spare = page.{lo}.sum('dim'); spare = spare.exp()",
)
SPLIT = (False, True)  # the score in one expression, or by a helper


def disguises(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    choices = list(itertools.product(LOW, HIGH, BOUND, RANK, DEAD, SPLIT))
    rng.shuffle(choices)
    return [disguise(rng, *choice) for choice in choices[:count]]


def disguise(rng, low, high, bound, rank, dead, split) -> str:
    names = rng.sample(["a", "b", "lowest", "highest", "zeta", "u7", "left", "right"], 2)
    lines = [f"        page.{names[0]} = {low}", f"        page.{names[1]} = {high}"]
    if rng.random() < 0.5:
        lines.reverse()
    named = dict(lo=names[0], hi=names[1])
    share = f'{bound.format(**named)}.sum("dim").softmax("page").sum("head")'
    top = f"\ndef helper(q, page):\n    return {share}\n" if split else ""
    score = rank.format(x="helper(q, page)" if split else share)
    body = [f"        {dead.format(**named)}"] if dead else []
    signature = "layer.index" if "layer_index" in score else ""
    source = SOURCE.format(top=top, name=rng.choice(["Quest", "Bound", "Mine", "F"]) + str(rng.randrange(10**6)), doc=f"Idea {rng.random()}",
                           settings=rng.choice(["page_size, budget = 16, 32", "budget = 32", "page_size = 16\n    budget = 2 * 16"]),
                           summaries="\n".join(lines), body="\n".join([*body, f"        return {score.replace('layer_index', 'layer.index')}"]))  # fmt: skip
    return source.replace("def score(self, q, page):", "def score(self, q, page, layer):") if signature else source


@pytest.mark.slow
def test_copies_under_disguises_are_answered_by_one_entry(tmp_path):
    sources = disguises(COPIES)
    assert len(set(sources)) == COPIES
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        study = Study.open(ledger, "copies", {"seed": 1})
        drafts = [draft(source, f"copy {index}") for index, source in enumerate(sources)]
        assert not [one.refused for one in drafts if one.refused]
        first, *copies = study.propose("copier", drafts)
        Campaign(
            study, NullLaboratory(Workload(screen_items=4, gate_items=8)), environment={"device": "null"}
        ).work_outside()
        verdicts = study.verdicts()
        assert [verdict.status for verdict in verdicts[first.id].values()] == [PASSED] * 4
        for copy in copies:
            assert [(verdict.status, verdict.facts) for verdict in verdicts[copy.id].values()] == [
                (ANSWERED, {"twin": first.id})
            ], copy.source
        assert ledger.rows("SELECT count(*) AS n FROM flow") == [{"n": 1}] and ledger.rows(
            "SELECT count(*) AS n FROM run"
        ) == [{"n": 3}]
        assert len(study.measured()) == 1
