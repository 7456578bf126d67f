"""`vortex generate` and the Generator behind it, on a tiny random model."""

import concurrent.futures
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


def test_streams_of_several_threads_get_the_answers_they_would_get_alone(generator):
    sampling = Sampling(max_tokens=20, temperature=1.0, seed=5)
    prompts = ["hello", "world", "42", "hello world", "x" * 40, "w"]
    alone = [generator.generate([prompt], sampling)[0] for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as threads:
        for _ in range(5):
            together = list(threads.map(lambda prompt: generator.generate([prompt], sampling)[0], prompts))
            assert together == alone
    assert generator._running == {}


def test_stop_strings_end_an_answer_and_are_left_out(generator):
    whole = generator.generate(["hello"], Sampling(max_tokens=40))[0]
    stop = whole.text[6:9]
    sampling = Sampling(max_tokens=40, stop=["never said", stop])
    pieces = list(generator.stream([generator.encode("hello")], sampling))
    answer = pieces[-1].answer
    assert answer.text == whole.text[: whole.text.index(stop)] == "".join(piece.text for piece in pieces)
    assert (answer.finished, answer.stopped_by) == ("stop", stop)
    assert answer.tokens == whole.tokens[: len(answer.tokens)] and len(answer.tokens) < len(whole.tokens)
    while not generator.engine.idle:
        generator.engine.step()
    assert generator.engine.statistics().running == 0


def test_stop_tokens_bans_and_log_probabilities(generator):
    whole = generator.generate(["hello"], Sampling(max_tokens=20))[0]
    stopped = generator.generate(["hello"], Sampling(max_tokens=20, stop_tokens=[whole.tokens[4]]))[0]
    assert stopped.finished == "stop" and stopped.stopped_by == whole.tokens[4]
    assert stopped.tokens == whole.tokens[: whole.tokens.index(whole.tokens[4]) + 1]
    banned = Sampling(max_tokens=20, logit_bias={token: float("-inf") for token in whole.tokens}, top_logprobs=3)
    other = generator.generate(["hello"], banned)[0]
    assert not set(other.tokens) & set(whole.tokens)
    assert len(other.top_logprobs) == len(other.tokens) and all(len(top) == 3 for top in other.top_logprobs)
    assert other.top_logprobs[0][0] == (whole.tokens[0], pytest.approx(whole.logprobs[0], abs=1e-6))
    vocabulary = generator.loaded.tokenizer.vocabulary
    nothing = Sampling(logit_bias={token: float("-inf") for token in range(vocabulary)})
    with pytest.raises(
        vx.UserError, match=r"\[logit_bias\] a token that may come next; every one is banned; ban fewer tokens"
    ):
        generator.generate(["hello"], nothing)
    generator.engine.check_integrity()


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
    with pytest.raises(vx.UserError, match=r"\[engine\] settings among .*; got 'max_bach'; did you mean max_batch\?"):
        Generator(generator.loaded, max_bach=3)


def test_an_empty_standard_input_is_no_prompt():
    ran = vortex("generate", input=" \n")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "error: [vortex generate] a prompt on standard input; it was empty; give a text there, or one as an argument\n"
    )


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
    stop = ("--stop", answers[0]["text"][3:5], "--stop-token", "1", "--top-logprobs", "2", "--logit-bias", "9=-inf")
    ran = vortex("generate", answers[0]["prompt"], "--model", model, "--max-tokens", "8", "--json", *stop)
    stopped = json.loads(ran.stdout)
    assert stopped["stopped_by"] == stop[1]
    assert stopped["text"] == answers[0]["text"][: answers[0]["text"].index(stop[1])]
    assert len(stopped["top_logprobs"][0]) == 2
    shown = vortex("generate", "hello", "world", "--model", model, "--max-tokens", "8")
    assert "--- 1: hello\n" in shown.stdout and "--- 2: world\n" in shown.stdout


@pytest.mark.slow
def test_the_commands_mistakes(model):
    for arguments, words in {
        (
            "hello",
            "--model",
            "smolm2",
        ): "error: [model] the path of a .gguf file or of a model's folder, or one of the models smollm2; got 'smolm2'; did you mean smollm2?",
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
            "--set",
            "sinks=2",
        ): "error: [--set] a flow that it applies to; got none; add --flow",
        ("hello", "--model", model, "--flow", "quest", "--set", "sink=2"): "sinks",
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
        ("hello", "--model", model, "--min-p", "2"): "error: [sampling] a min_p from 0 to 1; 2; give another",
        (
            "hello",
            "--model",
            model,
            "--logit-bias",
            "x=3",
        ): "error: [--logit-bias] TOKEN=NUMBER; got 'x=3'; for example 42=-inf",
        ("hello", "--top-logprobs", "3"): "error: [--top-logprobs] --json, which shows them; got none; add --json",
        ("hello", "--presence-penalti", "3"): "--presence-penalty",
    }.items():
        ran = vortex("generate", *arguments)
        assert ran.returncode == 2 and ran.stdout == "" and words in ran.stderr and ran.stderr.count("\n") == 1, ran
    ran = vortex("generate", "hello", "--model", "smolm2", "--json")
    assert json.loads(ran.stdout)["error"]["kind"] == "UserError"
