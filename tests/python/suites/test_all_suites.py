"""`vortex eval --suite all`, and the words of refusals."""

import pytest
from small_suites import wanted
from vortex_attention.cli.app import main


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--suite", "neddle"], 'a suite among needle, ruler, text, drift, reasoning, screen, all, or a .jsonl file of prompts and answers; "neddle"; did you mean "needle"?'),
        (["--suite", "needle", "--tasks", "vt"], "options of the suite needle: --items, --length, --seed; --tasks; leave it out"),
        (["--suite", "text", "--length", "4096"], "at most 2048 tokens, the context of the model; 4225 tokens for a stretch of text; lower --length"),
        (["--suite", "text", "--steps", "3"], "at least 8 steps; 3; raise --steps"),
        (["--suite", "drift", "--length", "500", "--every", "64"], "a distance of 1 to 31 for 500 tokens; --every 64; lower it"),
        (["--suite", "drift", "--length", "10"], "[drift] at least 16 tokens; --length 10; raise it"),
        (["--suite", "drift", "--length", "130", "--every", "8"], "a continuation of at least 128 tokens, 16 positions that are compared; "),
        (["quest@x"], 'NAME@BUDGET with a whole number of pages; "quest@x"; for example quest@64'),
        (["quest", "quest"], "flows with different names, none called full; quest a second time; rename one"),
    ],
)  # fmt: skip
def test_bad_options_end_with_one_clear_line(model, capsys, arguments, words):
    assert main(["eval", *arguments, "--model", str(model), "--ledger", "none"]) == 2
    assert words in capsys.readouterr().err


def test_all_suites_run_one_after_the_other_and_go_on_after_a_kill(model, ledger, monkeypatch, capsys, tmp_path):
    from vortex_attention.cli import all_suites

    parts = (
        all_suites.Part("screen", 1, {"items": 2, "length": 400, "positions": 4}),
        all_suites.Part("text", 2, {"items": 3, "length": 500, "steps": 16}),
        all_suites.Part("needle", 3, {"items": 2, "length": 800}),
        all_suites.Part("drift", 3, {"items": 1, "length": 300, "every": 8}),
    )

    class Killed(BaseException):
        pass

    def kill(what, done, of):
        if what == "text: items" and done == 2:
            raise Killed

    with pytest.raises(Killed):
        all_suites.all_suites(wanted(model, "all", options={}), kill, ledger, parts)
    said = []
    result = all_suites.all_suites(wanted(model, "all", options={}), lambda *line: said.append(line), ledger, parts)
    assert [one["suite"] for one in result["suites"]] == ["screen", "text", "needle", "drift"] and result[
        "left_out"
    ] == []
    assert [one["copied"] for one in result["suites"]] == [
        2 * 6,
        2 * 6,
        0,
        0,
    ]  # what was killed lost the item under way
    told = [line[1] for line in said if line[0] == "all suites"]
    assert told == sorted(told) and (told[0], told[-1]) == (0, 100)
    monkeypatch.setattr(all_suites, "PARTS", parts)
    monkeypatch.setattr(all_suites.all_suites, "__defaults__", (parts,))
    arguments = [
        "eval",
        "centroid",
        "--suite",
        "all",
        "--budget",
        "6",
        "--model",
        str(model),
        "--threads",
        "2",
        "--items",
        "2",
    ]
    assert main([*arguments, "--length", "300", "--ledger", str(tmp_path / "l.sqlite")]) == 0
    out = capsys.readouterr().out
    assert "suites in" in out and "needle: 2 items" in out
    assert main([*arguments, "--tries", "3", "--ledger", "none"]) == 2
    assert "[eval] options that a suite of all knows; --tries; leave it out" in capsys.readouterr().err


def test_what_the_model_cannot_do_is_named():
    from vortex_attention.cli.all_suites import Part, Whole, beyond

    arms = [{"role": "flow", "groups": {"vt": 0.1}}, {"role": "full", "groups": {"vt": 0.2, "qa_1": 0.5, "cwe": 0.0}}]
    assert beyond([{"suite": "ruler", "arms": arms}, {"suite": "text", "arms": []}]) == [
        {"task": "vt", "score": 0.2}, {"task": "cwe", "score": 0.0}]  # fmt: skip
    said = []
    parts = (Part("a", 1), Part("b", 3))
    whole = Whole(parts, lambda *line: said.append(line))
    whole.of_part(parts[0])("a: items", 1, 2)
    whole.finish(parts[0])
    assert said == [("all suites", 0, 100), ("a: items", 1, 2), ("all suites", 12, 100), ("all suites", 25, 100)]
    advance = whole.of_part(parts[1])
    advance("b: items", 0, 1)
    advance("b: steps", 10, 40)
    assert said[-1] == ("all suites", 44, 100)
    advance = whole.of_part(parts[1])
    advance("recording traces", 1, 3)
    assert said[-1] == ("all suites", 48, 100)  # 25 + 75 · 0.9 / 3
    advance("b: items", 0, 3)
    assert said[-1] == ("all suites", 92, 100)
