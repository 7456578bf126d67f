"""Written answers against stored ones, k tries, files of questions, and a suite of them on a tiny model."""

import itertools
import json
import sys
from dataclasses import replace

import pytest
from reference.random_model import random_llama
from vortex_attention.cli import measure
from vortex_attention.errors import UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval.answers import boxed, majority, math, pass_at, plain, plain_answer
from vortex_attention.eval.generate import COMPARED
from vortex_attention.eval.suites.questions import read_rows


@pytest.mark.parametrize(
    "said, right, is_right",
    [
        ("so \\boxed{42}", "42", True),
        ("so \\boxed{41} and no, \\boxed{42}", "42", True),
        ("\\boxed{42} but then \\boxed{41}", "42", False),
        ("The answer is 1,234.", "1234", True),
        ("Answer: 7\nbecause 3 and 4", "7", True),
        ("we add\n3 + 4 = 7", "7", True),
        ("we add\n3 + 4 = 8", "7", False),
        ("It is  The Blue\tHouse.", "the blue house", False),
        ("The answer is: The  Blue House.", "the blue house", True),
        ("", "7", False),
        ("7.0", "7", True),
        ("-7", "7", False),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", True),
    ],
)
def test_plain_answers(said, right, is_right):
    assert plain(said, right) is is_right


def test_what_is_boxed():
    assert boxed("a \\boxed{x^{2} + {1}} b") == "x^{2} + {1}"
    assert boxed("\\boxed{never closed") is None and boxed("nothing") is None
    assert plain_answer("first\n\nlast line. \n") == "last line"


def test_mathematics_is_compared_as_such():
    pytest.importorskip("math_verify", reason="math-verify is the extra that compares mathematics")
    assert math("so \\boxed{\\frac{2}{4}}", "0.5")
    assert math("thus $x = \\sqrt{8}$, \\boxed{2\\sqrt{2}}", "2\\sqrt{2}")
    assert not math("\\boxed{0.51}", "0.5") and not math("no idea", "0.5") and not math("", "0.5")


def test_mathematics_without_its_package_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    words = r"\[reasoning\] the package math-verify, to compare mathematics; it is not installed; pip install 'vortex-attention\[reasoning\]'"
    with pytest.raises(UserError, match=words):
        math("\\boxed{1}", "1")
    monkeypatch.delitem(sys.modules, "math_verify")
    (tmp_path / "math_verify.py").write_text("raise ImportError('an older grammar is needed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="it cannot be imported: an older grammar is needed; pip install"):
        math("\\boxed{1}", "1")


def test_majorities():
    tries = ["\\boxed{3}", "\\boxed{4}", "\\boxed{4.0}", "", "\\boxed{5}"]
    assert majority(tries, "4", plain) and not majority(tries, "3", plain)
    assert majority(["\\boxed{3}", "\\boxed{4}"], "3", plain), "the first wins a tie"
    assert majority(["The answer is 1,200", "The answer is 1200.0"], "1200", plain), "a round number stays one"
    assert not majority(["", ""], "3", plain) and not majority([], "3", plain)


def test_pass_at_k_is_the_share_of_samples_with_a_right_one():
    correct = [True, False, False, True, False]
    for k in range(1, 6):
        subsets = list(itertools.combinations(correct, k))
        assert pass_at(correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    with pytest.raises(ValueError, match="1 ≤ k ≤ 5 is required; 6 came"):
        pass_at(correct, 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=512)


def questions(path, number=4):
    rows = [{"prompt": f"What is {i} + {i}? " * 12, "answer": str(2 * i), "group": "sums"} for i in range(number)]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return str(path)


def test_a_file_of_questions_is_a_suite(model, tmp_path, monkeypatch):
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    wanted = measure.Wanted(
        suite=questions(tmp_path / "q.jsonl"),
        flows=("centroid@4",),
        model=str(model),
        threads=2,
        options={"steps": 12, "tries": 3},
    )
    result = measure.accuracy(wanted, lambda *_: None)
    arms = {arm["name"]: arm for arm in result["arms"]}
    assert list(arms["full"]["metrics"]) == ["mean", "pass", "majority", "truncated"]
    for arm in arms.values():
        for outcome in arm["outcomes"]:
            assert len(outcome["correct"]) == len(outcome["said_tokens"]) == 3
            assert not any(outcome["correct"]) or outcome["truncated"] < 1
            assert all(count <= 12 for count in outcome["said_tokens"])
    assert arms["full"]["groups"] == {"sums": arms["full"]["metrics"]["mean"]["center"]}
    assert len({tuple(outcome["said_tokens"]) for outcome in arms["full"]["outcomes"]}) >= 1
    again = measure.accuracy(wanted, lambda *_: None)
    assert [arm["outcomes"] for arm in again["arms"]] == [arm["outcomes"] for arm in result["arms"]]


@pytest.mark.parametrize("tries, steps", [(2, 12), (1, COMPARED + 20)])
def test_questions_side_by_side_are_answered_as_alone(model, tmp_path, monkeypatch, tries, steps):
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    wanted = measure.Wanted(
        suite=questions(tmp_path / "q.jsonl", 5),
        flows=("centroid@4",),
        model=str(model),
        threads=2,
        options={"steps": steps, "tries": tries},
    )
    alone = measure.accuracy(wanted, lambda *_: None)
    recorded = [arm["attended_tokens"] for arm in alone["arms"]]
    assert (
        len({tuple(outcome["said_tokens"]) for arm in alone["arms"] for outcome in arm["outcomes"]}) > 1 or tries == 1
    )
    for ahead in (1, 16):  # 16: as on a device, arm by arm, greedy steps without the host
        monkeypatch.setattr(beds, "ahead_on", lambda device, ahead=ahead: ahead)
        together = measure.accuracy(replace(wanted, together=3), lambda *_: None)
        assert [arm["outcomes"] for arm in together["arms"]] == [arm["outcomes"] for arm in alone["arms"]]
        if tries > 1 or ahead == 1:
            assert [arm["attended_tokens"] for arm in together["arms"]] == recorded


@pytest.mark.parametrize(
    "line, words",
    [
        ("not json", r'q.jsonl:2\] an object with the texts "prompt" and "answer"; not json; for example {"prompt"'),
        ('{"prompt": "a"}', r'q.jsonl:2\] an object with the texts "prompt" and "answer"'),
        ('{"prompt": "a", "answer": 4}', r"q.jsonl:2\] an object with the texts"),
        (
            '{"prompt": "a", "answer": "4", "check": "maths"}',
            r'q.jsonl:2\] a "check" among plain, math; "maths"; did you mean "math"\?',
        ),
        (
            '{"prompt": "a", "answer": "4", "check": []}',
            r'q.jsonl:2\] a "check" among plain, math; "\[\]"; leave it out',
        ),
        (
            '{"prompt": "a", "answer": "4", "group": 3}',
            r'q.jsonl:2\] a text as "group"; 3; write it as a text, or leave it out',
        ),
        ("[" * 100_000, r"q.jsonl:2\] an object with the texts"),
        (
            '{"prompt": "a", "answer": "4", "name": "line 1"}',
            r'questions with different names; "line 1" more than once; rename one',
        ),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line, words):
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "a", "answer": "4"}\n' + line + "\n")
    with pytest.raises(UserError, match=words):
        read_rows(str(path))


def test_a_question_may_hold_any_letter(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(
        json.dumps({"prompt": "a\u2028b\x85c", "answer": "4"}, ensure_ascii=False) + "\r\n", encoding="utf-8"
    )
    assert [row["prompt"] for row in read_rows(str(path))] == ["a\u2028b\x85c"]


def test_a_file_without_a_question_is_named(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match=r"q.jsonl\] at least one question; none; for example"):
        read_rows(str(path))


def test_a_wrong_suite_is_refused_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(measure, "_bed", lambda *_: pytest.fail("loaded"))
    for suite, words in (
        ("neddle", 'did you mean "needle"'),
        ("missing.jsonl", "No such file"),
        ("text", "--tasks; leave it out"),
    ):
        with pytest.raises(UserError, match=words):
            measure.accuracy(
                measure.Wanted(
                    suite=suite, flows=["quest"], model="x", options={"tasks": ("vt",) if suite == "text" else None}
                ),
                print,
            )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(
        UserError, match=r"\[eval\] a .jsonl file of UTF-8 text that can be read; .*missing.jsonl: .*; check the path"
    ):
        read_rows(str(tmp_path / "missing.jsonl"))
