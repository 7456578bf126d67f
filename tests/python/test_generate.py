"""`vortex generate` and the Generator behind it, on a tiny random model."""

import json

import pytest
import vortex_attention as vx
from reference.random_model import random_llama
from test_cli import vortex
from vortex_attention.engine import Generator, Sampling


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(random_llama(tmp_path_factory.mktemp("generate") / "tiny.gguf", seed=4))


@pytest.fixture(scope="module")
def generator(model):
    return Generator(model, memory_bytes=8 << 20, threads=1)


def test_many_prompts_get_the_answers_they_would_get_alone(generator):
    prompts = ["hello", "hello world", "x" * 90, "42"]
    sampling = Sampling(max_tokens=20, temperature=0.8, seed=3)
    together = generator.generate(prompts, sampling)
    assert [answer.tokens for answer in together] == [
        generator.generate([prompt], sampling)[0].tokens for prompt in prompts
    ]
    for answer in together:
        assert (
            answer.finished in ("length", "stop")
            and 1 <= len(answer.tokens) <= 20
            and len(answer.logprobs) == len(answer.tokens)
        )
        assert answer.text == generator.loaded.tokenizer.decode(answer.tokens)


def test_pieces_add_up_to_the_answer(generator):
    pieces = list(generator.stream([generator.encode("hello")], Sampling(max_tokens=30)))
    assert "".join(piece.text for piece in pieces) == pieces[-1].answer.text
    assert all(piece.answer is None for piece in pieces[:-1])


def test_two_streams_of_one_generator_do_not_take_each_others_events(generator):
    sampling = Sampling(max_tokens=15)
    alone = [generator.generate([prompt], sampling)[0] for prompt in ("hello", "world")]
    first = generator.stream([generator.encode("hello")], sampling)
    next(first)
    second = generator.stream([generator.encode("world")], sampling)
    next(second)
    assert [list(stream)[-1].answer for stream in (first, second)] == alone


def test_leaving_the_loop_aborts_what_runs(generator):
    for _ in generator.stream([generator.encode("hello"), generator.encode("world")], Sampling(max_tokens=50)):
        break
    while not generator.engine.idle:
        generator.engine.step()
    assert generator.engine.statistics().running == 0
    generator.engine.check_integrity()


def test_a_flow_with_the_whole_budget_says_what_full_attention_says(model, generator):
    sparse = Generator(model, flow="quest", overrides={"budget": "64"}, memory_bytes=8 << 20, threads=1)
    prompt, sampling = "hello world " * 20, Sampling(max_tokens=24)
    assert sparse.generate([prompt], sampling)[0] == generator.generate([prompt], sampling)[0]


def test_what_generate_refuses(generator):
    with pytest.raises(vx.UserError, match=r"\[max_tokens\] at least 1; got 0; raise it"):
        generator.generate(["x"], Sampling(max_tokens=0))
    with pytest.raises(vx.UserError, match="temperature"):
        generator.generate(["x"], Sampling(temperature=-1))
    with pytest.raises(vx.UserError, match="context"):
        generator.generate(["x" * 600])
    generator.engine.check_integrity()


@pytest.mark.slow
def test_the_command_streams_one_answer(model, generator):
    ran = vortex("generate", "hello", "--model", model, "--max-tokens", "12", "--threads", "1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == generator.generate(["hello"], Sampling(max_tokens=12))[0].text + "\n"
    again = vortex("generate", "-", "--model", model, "--max-tokens", "12", input="hello")
    assert again.stdout == ran.stdout
    raw = vortex("generate", "hello", "--model", model, "--max-tokens", "12", "--raw")
    assert raw.returncode == 0 and raw.stdout != ran.stdout


@pytest.mark.slow
def test_the_command_with_many_prompts_and_json(model, generator):
    ran = vortex("generate", "hello", "world", "--model", model, "--max-tokens", "8", "--json")
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert sorted(answer["prompt"] for answer in answers) == ["hello", "world"]
    for answer in answers:
        assert answer["tokens"] == generator.generate([answer["prompt"]], Sampling(max_tokens=8))[0].tokens
    shown = vortex("generate", "hello", "world", "--model", model, "--max-tokens", "8")
    assert "--- 1: hello\n" in shown.stdout and "--- 2: world\n" in shown.stdout


@pytest.mark.slow
def test_the_commands_mistakes(model):
    for arguments, words in {
        (
            "hello",
            "--model",
            "smolm2",
        ): "error: [model] the path of a .gguf file or one of the models smollm2; got 'smolm2'; did you mean smollm2?",
        (
            "hello",
            "--model",
            model,
            "--budget",
            "9",
        ): "error: [--budget] a flow that it applies to; got none; add --flow",
        (
            "hello",
            "--model",
            model,
            "--raw",
            "--system",
            "x",
        ): "error: [--system] a chat; got --raw; leave one of them out",
        ("hello", "--model", model, "--flow", "qest"): 'did you mean "quest"?',
        ("hello", "--model", model, "--temperature", "-1"): "temperature",
    }.items():
        ran = vortex("generate", *arguments)
        assert ran.returncode == 2 and ran.stdout == "" and words in ran.stderr and ran.stderr.count("\n") == 1, ran
    ran = vortex("generate", "hello", "--model", "smolm2", "--json")
    assert json.loads(ran.stdout)["error"]["kind"] == "UserError"
