"""The skill takes an agent from nothing to its first measured proposal: its commands are run as they stand, and AGENTS.md and the skill agree."""

import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SKILL = ROOT / "skills" / "design-sparse-attention" / "SKILL.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", SKILL.read_text(), flags=re.DOTALL)


def end_workers(ledger):
    """Those that submit started; they would end by themselves two minutes later."""
    from vortex_attention.discover.study import Study
    from vortex_attention.discover.worker import at_work
    from vortex_attention.ledger import Ledger

    with Ledger.open(ledger) as opened:
        for name in at_work(Study.open(opened, "mine")):
            os.kill(int(name.split(":")[1]), signal.SIGTERM)


def test_it_says_what_it_is_and_when():
    head = SKILL.read_text().split("---")[1]
    fields = dict(line.split(": ", 1) for line in head.strip().splitlines())
    assert fields["name"] == SKILL.parent.name and re.fullmatch(r"[a-z0-9-]{1,64}", fields["name"])
    assert len(fields["description"]) <= 1024 and "Use when" in fields["description"]
    assert len(SKILL.read_text().splitlines()) < 500


def test_every_verb_it_names_is_there():
    from vortex_attention.discover import verbs

    named = set(re.findall(r"vortex study ([a-z-]+)", SKILL.read_text())) - {"schema", "work", "VERB"}
    assert named and named <= set(verbs.VERBS)


@pytest.mark.slow
def test_its_commands_take_an_agent_to_a_measured_proposal(tmp_path, request):
    """As they stand, in an empty folder, by the shell; only the first begins a study whose numbers are made up."""
    (tmp_path / "idea.py").write_text(blocks("python")[0])
    program = tmp_path / "bin" / "vortex"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vortex_attention "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                                "VORTEX_LEDGER": str(tmp_path / "ledger.sqlite")}  # fmt: skip
    request.addfinalizer(lambda: end_workers(tmp_path / "ledger.sqlite"))
    said = []
    for line in "".join(blocks("sh")).strip().splitlines():
        line += " --evaluator null" if " begin " in line else ""
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        said.append(done.stdout)
    begin, language, flows, check, price, propose, submit, wait, result = said
    assert "class Idea" in language and "right         yes" in check and json.loads(propose)["proposal"] == 1
    assert "wait 1" in submit and "done" in wait and "times full attention" in result and "p_non_dominated" in result
    published = subprocess.run(
        ["vortex", "publish", "1", "--study", "mine", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    made = json.loads(published.stdout)
    again = subprocess.run(
        ["vortex", "study", "check", made["file"], "--study", "mine", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert json.loads(again.stdout)["hash"] == made["hash"] and json.loads(again.stdout)["known_as"] == 1
    refused = subprocess.run(
        ["vortex", "publish", "1", "--study", "mine"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    wrong = subprocess.run(
        ["vortex", "publish", "1", "--study", "mine", "--out", "x.txt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2 and "a name that ends in .py: proposal 1 is published as Python" in wrong.stderr
    assert refused.returncode == 2 and "a file that is not there yet" in refused.stderr and "--force" in refused.stderr
