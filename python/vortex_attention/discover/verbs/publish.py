"""publish: a plain flow file with its provenance card: figures with intervals, where they were measured, how to measure them again.

The card stands in comments above the source; where the source alone would not give the same program (IR of a search, other settings), the
program is written out as a class, and what has no plain form as a class is IR with the card as its description. The text is loaded again
before it is handed out, and has the same hash.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

from ...printable import blanked
from .args import Says
from .records import Published

if TYPE_CHECKING:
    from .desk import Desk


def publish(desk: Desk, proposal: Annotated[int, Says("the number of a proposal", least=1)]) -> Published:
    """Write a flow file with its provenance card."""
    from ...errors import InternalError
    from ..written import python_of

    study = desk.study()
    found = study.proposal(proposal)
    program = study.program(found)
    card = _card(desk, study, found, program)
    lines = _lines(card)
    stem = (
        "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in program.name.lower()).strip("_")[
            :40
        ]
        or "flow"
    )
    header = "\n".join(f"# {line}".rstrip() for line in lines) + "\n\n"
    tries = []
    if not found.handed_in and not found.source.startswith("vortex_ir") and not found.source.lstrip().startswith("{"):
        tries.append((f"{stem}_{program.hash[:8]}.py", header + found.source.lstrip("\ufeff")))
    if written := python_of(program):
        tries.append((f"{stem}_{program.hash[:8]}.py", header + written))
    tries.append((f"{stem}_{program.hash[:8]}.txt", _as_ir(program, lines)))
    for file_name, text in tries:
        again = desk.drafted(text).program
        if again is not None and again.hash == program.hash:
            return Published(found.id, program.hash, file_name, text, card)
    raise InternalError(
        "publish",
        "the IR of a flow loads and has its hash",
        f"proposal {found.id} does not",
        "this is a defect of Vortex, please report it",
    )


def _as_ir(program, lines: list[str]) -> str:
    """The IR with the card as its description; neither it nor the source's name is part of the hash."""
    import json

    doc = "\n".join(([program.doc, ""] if program.doc else []) + lines)
    out, placed = [], False
    for line in program.text().splitlines():
        if line.startswith(("doc ", "source ")):
            continue
        out.append(line)
        if line.startswith("flow ") and not placed:
            out.append(f"doc {json.dumps(doc, ensure_ascii=False)}")
            placed = True
    return "\n".join(out) + "\n"


def _card(desk: Desk, study, proposal, program) -> dict:
    from ..claims import claims
    from ..confirmations import samples_of
    from .desk import gates_of
    from .records import to_json

    gates = gates_of(study, proposal.id)
    standing = next((one for one in desk.standings(study) if proposal.id in (one.proposal, *one.twins)), None)
    runs = {name: gate.run for name, gate in gates.items() if gate.run}
    where = (
        [
            dict(row)
            for row in desk.ledger.rows(
                "SELECT DISTINCT e.device, e.commit_id, e.dirty, r.model, r.model_sha256, r.numerics FROM run r JOIN environment e ON e.digest = r.environment "
                f"WHERE r.id IN ({','.join('?' * len(runs))})",
                tuple(runs.values()),
            )
        ]
        if runs
        else []
    )
    return {
        "flow": program.name,
        "hash": program.hash,
        "settings": str(program.config),
        "study": study.name,
        "proposal": proposal.id,
        "author": proposal.author,
        "proposed": proposal.at,
        "hypothesis": proposal.hypothesis,
        "parents": list(proposal.parents),
        "evaluator": study.settings.get("evaluator", "real"),
        "workload": study.settings["workload"],
        "standing": to_json(standing),
        "confirmed": "confirm" in gates,
        "claims": [str(one) for one in claims(samples_of(study)) if one.wins and one.proposal == proposal.id],
        "gates": {name: f"{gate.status}: {gate.reason}" for name, gate in gates.items()},
        "runs": runs,
        "measured_at": where,
    }


def _lines(card: dict) -> list[str]:
    """The card as a page of plain lines; what others wrote cannot start one of its own, and stands behind the two lines in which Python looks
    for the encoding of a file."""
    from ..items import TASKS

    def plain(value: object) -> str:
        return blanked(value)[:600]

    def estimate(one: dict, unit: str, sign: str = "") -> str:
        if not one or None in one.values():
            return "not known"
        return f"{one['center']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]{unit} ({one['count']})"

    work = card["workload"]
    lines = [
        "Provenance of this flow, as the ledger has it; untrusted words are quoted as they came.",
        f"hash        {card['hash']}",
        f"flow        {plain(card['flow'])}",
        f"settings    {plain(card['settings'])}",
        f"proposal    {card['proposal']} of study {plain(card['study'])}, by {plain(card['author'])}, {card['proposed'][:19]}",
        f'hypothesis  "{plain(card["hypothesis"])}"',
        f"parents     {', '.join(map(str, card['parents'])) or 'none'}",
    ]
    standing = card["standing"]
    if standing:
        lines += [
            f"accuracy    {estimate(standing['gain'], ' nat', '+')} of the answer beside full attention, 95 %, items in brackets",
            f"speed       {estimate(standing['ratio'], ' x')} full attention's, 95 %, blocks in brackets",
            f"frontier    {standing['state']}, P(non-dominated) {standing['p_non_dominated']:.2f}; "
            + (
                {
                    True: "confirmed, accurate after Holm at 5 %",
                    False: "confirmed, not shown to be accurate",
                    None: "provisional: not confirmed",
                }[standing["accurate"]]
            ),
        ]
    else:
        lines.append("figures     none: it did not pass its bench")
    lines += [f"claim       {said}" for said in card["claims"]]
    lines += [f"{name:<11} {plain(said)}" for name, said in card["gates"].items()]
    if card["evaluator"] == "null":
        lines.append("evaluator   null: the figures are made up from the hash, to try the loop")
    lines += [
        f"measured    {plain(row['model'])} (sha256 {row['model_sha256'][:12]}) on {plain(row['device'])}, commit {row['commit_id']}{'+' if row['dirty'] else ''}, "
        f"numerics {plain(row['numerics'])}"
        for row in card["measured_at"]
    ]
    asked = (
        "needles"
        if work.get("suite", "needle") == "needle"
        else f"{work['suite']} ({_by_commas(work.get('tasks') or TASKS)})"
    )
    lines.append(
        f"workload    {plain(asked)} of {work['length']} tokens; speed with {work['batch']} sequences of {work['context']} tokens"
    )
    other = [_by_commas(work[name]) for name in ("confirm_tasks", "confirm_lengths") if work.get(name)]
    if other:
        how = "confirmed" if card["confirmed"] else "to confirm"
        lines.append(f"{how:<11} with {plain('; '.join(other))}, which no gate shows")
    commands = _commands(card["evaluator"], work, shlex.quote(plain(work["model"])))
    return lines + [f"{'' if index else 'reproduce':<11} {command}" for index, command in enumerate(commands)]


def _by_commas(values) -> str:
    return ",".join(map(str, values))


def _commands(evaluator: str, work: dict, model: str) -> list[str]:
    """That measure this file again. Figures that no model was decoded for come from a study of the same evaluator alone: its gates'."""
    from ..items import TASKS

    if evaluator == "real":
        device = f" --device {work['device']}" if work.get("device", "cpu") != "cpu" else ""
        suite, items = "", work["gate_items"]
        if work.get("suite", "needle") != "needle":  # whose items are counted by task
            tasks = work.get("tasks") or TASKS
            suite, items = f" --suite {work['suite']} --tasks {_by_commas(tasks)}", -(-items // len(tasks))
        return [
            f"vortex eval THIS_FILE --model {model}{device}{suite} --length {work['length']} --items {items}",
            f"vortex bench THIS_FILE --model {model}{device} --batch {work['batch']} --context {work['context']}",
        ]
    where = "--study again --ledger again.sqlite"
    return [
        f"vortex study begin {where} --evaluator {evaluator} --model {model} --seed {work['seed']} --items {work['gate_items']} "
        f"--length {work['length']} --batch {work['batch']} --context {work['context']}",
        f"vortex study propose THIS_FILE 'measured again' {where}",
        f"vortex study submit 1 --no-worker {where}",
        f"vortex study work --idle 1 {where}",
        f"vortex study result 1 {where}",
    ]
