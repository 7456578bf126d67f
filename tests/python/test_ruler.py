"""RULER's generators and scores: the official texts seed by seed, lengths that are held, the official meaning of right."""

import json
import pathlib
import re

import pytest
from vortex_attention.errors import UserError
from vortex_attention.eval.ruler import sources, table
from vortex_attention.eval.ruler.needles import WordPairs, sentences_of

DIGESTS = json.loads((pathlib.Path(__file__).parent / "reference" / "ruler.json").read_text())
WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]")


def count(text: str) -> int:
    return len(WORDS_AND_MARKS.findall(text))


def digest(sample) -> str:
    import hashlib

    return hashlib.sha256(json.dumps([sample.text, list(sample.outputs), sample.length]).encode()).hexdigest()[:16]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(table.TASKS))
def test_the_texts_are_the_official_ones(name):
    """tools/ruler_digests.py recorded what the official scripts make of the same seed, length and token counts."""
    for length, expected in DIGESTS["digests"][name].items():
        task = table.task(name, length=int(length), seed=DIGESTS["seed"], count=count)
        assert [digest(sample) for sample in task.samples(DIGESTS["samples"])] == expected, length


@pytest.mark.parametrize("name", list(table.TASKS))
@pytest.mark.parametrize("length", [1200, 5000])
def test_samples_hold_their_length_and_their_answer(small_sources, name, length):
    task = table.task(name, length=length, seed=3, count=count)
    samples = task.samples(4)
    room = task.room if name == "fwe" else 0
    for sample in samples:
        assert 0.6 * length < sample.length <= length + room
        if name != "vt":  # the example is counted, its new names may differ in tokens
            assert count(sample.text) + task.room == sample.length
        for output in sample.outputs[:1]:
            assert output in sample.text
        assert table.score(name, " and ".join(sample.outputs), sample.outputs) == 1.0
        assert table.score(name, "nothing", sample.outputs) == 0.0
    assert len({sample.text for sample in samples}) == 4
    again = table.task(name, length=length, seed=3, count=count).samples(4)
    assert [sample.text for sample in again] == [sample.text for sample in samples]
    assert table.task(name, length=length, seed=4, count=count).samples(1)[0].text != samples[0].text


def test_the_chats_frame_is_left_alone(small_sources):
    """Words of the frame are no part of the task: no singular is made of them, no brace in them is filled in."""

    def chat(user, start):
        return f"<system>These are all {{rules}}.</system><user>{user}</user>{start}"

    for name in table.TASKS:
        sample = table.task(name, length=2000, seed=1, count=count, chat=chat).samples(1)[0]
        assert sample.text.startswith("<system>These are all {rules}.</system><user>")
        assert sample.text.count("<user>") == sample.text.count("</user>") == 1


def test_one_needle_is_spoken_of_as_one(small_sources):
    one = table.task("niah_single_1", length=1200, seed=1, count=count).samples(1)[0].text
    assert one.startswith("A number is here.") and "What is number of" in one and one.endswith(" They is")
    many = table.task("niah_multivalue", length=1200, seed=1, count=count).samples(1)[0].text
    assert many.startswith("Some numbers are here.") and "What are all numbers of" in many


def test_scores_have_the_official_meaning():
    assert table.score("niah_multivalue", "1, 22 and 4", ("1", "22", "333", "4")) == 0.75
    assert table.score("vt", "abcde XYZ", ("ABCDE", "xyz")) == 1.0
    assert table.score("qa_1", "it is in Paris\x07", ("France", "paris")) == 1.0
    assert table.score("qa_1", "", ("France",)) == 0.0


def test_pairs_of_words_are_in_order_without_being_made():
    firsts, seconds = ["well", "well-known", "a", "zig", "well-worn"], ["known-man", "b", "worn", "zag", "a"]
    whole = sorted({f"{first}-{second}" for first in firsts for second in seconds})
    pairs = WordPairs(firsts, seconds)
    assert [pairs[i] for i in range(len(pairs))] == whole
    with pytest.raises(IndexError):
        pairs[len(whole)]


def test_sentences_end_where_they_end():
    assert sentences_of('He said "No." Then he left. At 3.5 p.m. it rained! Why? (So be it.) End') == [
        'He said "No.', "Then he left.", "At 3.5 p.m. it rained!", "Why?", "(So be it.", "End"]  # fmt: skip


def test_a_length_that_holds_no_sample_is_refused(small_sources):
    for name in ("niah_single_1", "qa_1", "cwe"):
        with pytest.raises(
            UserError,
            match=r"\[ruler\] a length that holds a sample of \w+, .* tokens; 150; raise --length or leave the task out",
        ):
            table.task(name, length=150, seed=1, count=count).samples(1)


def test_a_task_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(
        UserError, match=r'\[ruler\] tasks among niah_single_1, .*; "niah_singel_1"; did you mean "niah_single_1"\?'
    ):
        table.check_names(["niah_singel_1"])
