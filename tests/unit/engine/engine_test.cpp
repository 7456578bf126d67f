// Requests through the engine: a request's tokens are those of its undisturbed run, whatever happens around it.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <limits>

#include "tiny.h"

namespace vortex::engine {
namespace {

using Tokens = std::vector<std::int32_t>;

Request request_of(std::int64_t prompt, std::int64_t answer, std::uint64_t seed, int flow = kFullAttention) {
  Request request;
  request.prompt = random_tokens(prompt, seed);
  request.max_new_tokens = answer;
  request.flow = flow;
  if (seed % 2 == 1) request.sampling = {.temperature = 1.0f, .top_k = 20, .top_p = 0.95f, .seed = seed};
  if (seed % 4 == 1)
    request.sampling = {.temperature = 0.9f,
                        .typical_p = 0.95f,
                        .min_p = 0.01f,
                        .repetition_penalty = 1.2f,
                        .frequency_penalty = 0.3f,
                        .logit_bias = {{static_cast<std::int32_t>(seed % 61), 2.0f}},
                        .seed = seed,
                        .top_logprobs = 3};
  return request;
}

TEST(Engine, AnswersDoNotDependOnTheBatchChunksOrThreads) {
  ir::Program flow = centroid_flow(6);
  for (std::int64_t chunk : {7, 32, 512})
    for (int threads : {1, 3}) {
      EngineConfig config = tiny_config();
      config.chunk_tokens = chunk;
      config.threads = threads;
      Engine engine(std::make_shared<TinyModel>(), config);
      int id = engine.load_flow(flow);
      std::vector<Request> requests;
      for (std::uint64_t i = 0; i < 12; ++i)
        requests.push_back(request_of(5 + static_cast<std::int64_t>(i) * 13, 10 + static_cast<std::int64_t>(i) % 5, i,
                                      i % 3 == 0 ? kFullAttention : id));
      for (const Request& request : requests) engine.submit(request);
      Answers answers = run_all(engine);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        Answer undisturbed = alone(requests[i], i % 3 == 0 ? nullptr : &flow);
        EXPECT_EQ(answers[static_cast<std::int64_t>(i)], undisturbed) << "request " << i << ", chunk " << chunk;
        EXPECT_EQ(undisturbed.finished, FinishReason::length);
        EXPECT_EQ(static_cast<std::int64_t>(undisturbed.tokens.size()), requests[i].max_new_tokens);
      }
    }
}

TEST(Engine, AFlowChangesAnswersAndACoveringBudgetDoesNot) {
  Request request = request_of(200, 40, 2);
  Answer full = alone(request);
  ir::Program covering = centroid_flow(1000), narrow = centroid_flow(3);
  EXPECT_EQ(alone(request, &covering), full);
  covering.config.reuse = {{1, 0}};
  covering.config.refresh_every = 4;
  EXPECT_EQ(alone(request, &covering), full);
  EXPECT_NE(alone(request, &narrow).logprobs, full.logprobs);
}

// State advances while the budget covers all: what a row chooses later depends on it.
TEST(Engine, StateChangesAnswersAndStartsAnewWithEachRequest) {
  const Request request = request_of(100, 60, 2);
  ir::Program plain = centroid_flow(20), flow = stateful_flow(20), covering = stateful_flow(1000);
  const Answer answer = alone(request, &flow);
  EXPECT_NE(answer.logprobs, alone(request, &plain).logprobs);
  EXPECT_EQ(alone(request, &covering), alone(request));
  // The same request after it, with all of its prompt found in the prefix cache, and before the cache was evicted and
  // after.
  EngineConfig config = tiny_config();
  config.pages = 80;
  Engine engine(std::make_shared<TinyModel>(), config);
  Request own = request;
  own.flow = engine.load_flow(flow);
  for (int i = 0; i < 3; ++i) {
    const std::int64_t id = engine.submit(own);
    EXPECT_EQ(run_all(engine)[id], answer) << i;
    if (i == 1) {
      engine.submit(request_of(250, 20, 8));
      run_all(engine);
      EXPECT_GT(engine.statistics().evicted_pages, 0);
    }
  }
  EXPECT_GE(engine.statistics().prefix_hit_tokens, 96);
}

// Layers with flows of their own: what each reads is what that flow alone would, and all promises hold.
TEST(Engine, LayersMayHaveFlowsOfTheirOwn) {
  const Request request = request_of(90, 40, 2);
  ir::Program first = centroid_flow(4), second = stateful_flow(9), mixed = first;
  ir::add_layers(mixed, {1}, second, {});
  EXPECT_NE(alone(request, &mixed).logprobs, alone(request, &first).logprobs);
  ir::Program same = first;
  ir::add_layers(same, {0}, first, {});
  EXPECT_EQ(alone(request, &same), alone(request, &first)) << "the same flow, named for a layer";
  ir::Program covering = centroid_flow(1000);
  ir::add_layers(covering, {0}, stateful_flow(1000), {});
  EXPECT_EQ(alone(request, &covering), alone(request));

  EngineConfig config = tiny_config();
  config.pages = 60;
  config.threads = 2;
  Engine engine(std::make_shared<TinyModel>(), config);
  const int other = engine.load_flow(centroid_flow(5)), id = engine.load_flow(mixed);
  EXPECT_EQ(engine.load_flow(mixed), id);
  EXPECT_NE(engine.load_flow(first), id);
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 6; ++i) requests.push_back(request_of(50, 50, 40 + i, i == 2 ? other : id));
  for (const Request& each : requests) engine.submit(each);
  Answers answers = run_all(engine);
  EXPECT_GT(engine.statistics().preemptions, 0);
  const ir::Program plain = centroid_flow(5);
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(answers[static_cast<std::int64_t>(i)], alone(requests[i], i == 2 ? &plain : &mixed)) << "request " << i;

  mixed.others.clear();
  ir::add_layers(mixed, {0, 2}, second, {});
  try {
    engine.load_flow(mixed);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[centroid] flows for layers below the model's 2 layers; layer 2 for stateful; name layers that the "
                 "model has");
  }
}

TEST(Engine, AStepThatFailedIsMadeAgainWithTheSameState) {
  ir::Program flow = stateful_flow(5);
  Request request = request_of(60, 30, 4);
  auto model = std::make_shared<TinyModel>();
  Engine engine(model, tiny_config());
  request.flow = engine.load_flow(flow);
  const std::int64_t id = engine.submit(request);
  Answers answers;
  for (int step = 0; !engine.idle(); ++step) {
    if (step % 3 == 2) {
      model->fail_late = true;
      EXPECT_THROW(engine.step(), std::runtime_error);
    }
    take(answers, engine.step());
  }
  request.flow = kFullAttention;
  EXPECT_EQ(answers[id], alone(request, &flow));
}

TEST(Engine, PrefixReuseGivesTheUndisturbedAnswer) {
  ir::Program flow = centroid_flow(6);
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  int id = engine.load_flow(flow);
  Request first = request_of(90, 10, 4), second = first;
  for (std::int32_t token : random_tokens(30, 99)) second.prompt.push_back(token);
  second.flow = id;
  engine.submit(first);
  run_all(engine);
  EXPECT_EQ(engine.statistics().prefix_hit_tokens, 0);
  std::int64_t again = engine.submit(second);
  EXPECT_EQ(run_all(engine)[again], alone(second, &flow));
  EXPECT_EQ(engine.statistics().prefix_hit_tokens, 88);
  EXPECT_GT(engine.statistics().rebuilt_summaries, 0) << "the first request had no flow, so nothing was summarized";
  again = engine.submit(first);
  EXPECT_EQ(run_all(engine)[again], alone(first));
}

TEST(Engine, FullAttentionNeverHitsASparsePage) {
  ir::Program flow = centroid_flow(3), other = centroid_flow(4);
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  int id = engine.load_flow(flow), other_id = engine.load_flow(other);
  Request first = request_of(60, 40, 6, id);
  std::int64_t answer = engine.submit(first);
  Request next = first;
  Answer said = run_all(engine)[answer];
  next.prompt.insert(next.prompt.end(), said.tokens.begin(), said.tokens.end());
  for (std::int32_t token : random_tokens(10, 98)) next.prompt.push_back(token);
  auto hits = [&](int which) {
    std::int64_t before = engine.statistics().prefix_hit_tokens;
    next.flow = which;
    std::int64_t request = engine.submit(next);
    Answer came = run_all(engine)[request];
    if (which == kFullAttention) {
      EXPECT_EQ(came, alone(next));
    }
    return engine.statistics().prefix_hit_tokens - before;
  };
  EXPECT_EQ(hits(kFullAttention), 60);
  EXPECT_EQ(hits(other_id), 108) << "now prefilled densely by the full-attention request";
  Request fresh = first;
  fresh.prompt = random_tokens(60, 61);
  answer = engine.submit(fresh);
  said = run_all(engine)[answer];
  next.prompt = fresh.prompt;
  next.prompt.insert(next.prompt.end(), said.tokens.begin(), said.tokens.end());
  for (std::int32_t token : random_tokens(10, 98)) next.prompt.push_back(token);
  EXPECT_EQ(hits(other_id), 60) << "another flow shares the dense prompt only";
}

TEST(Engine, AFlowHitsItsOwnPagesAndThoseBelowStayItsOwn) {
  ir::Program flow = centroid_flow(3);
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  int id = engine.load_flow(flow);
  Request first = request_of(60, 40, 6, id);
  std::int64_t answer = engine.submit(first);
  Answer said = run_all(engine)[answer];
  Request next = first;
  next.prompt.insert(next.prompt.end(), said.tokens.begin(), said.tokens.end());
  for (std::int32_t token : random_tokens(30, 98)) next.prompt.push_back(token);
  engine.submit(next);
  run_all(engine);
  EXPECT_EQ(engine.statistics().prefix_hit_tokens, 96) << "99 tokens were stored, 24 full pages";
  std::int64_t before = engine.statistics().prefix_hit_tokens;
  next.flow = kFullAttention;  // the prompt's end was prefilled after sparse KV, so it is not dense either
  answer = engine.submit(next);
  EXPECT_EQ(run_all(engine)[answer], alone(next));
  EXPECT_EQ(engine.statistics().prefix_hit_tokens - before, 60);
}

TEST(Engine, PreemptionUnderAFlowGivesTheUndisturbedAnswer) {
  ir::Program flow = centroid_flow(4);
  for (bool cache : {true, false}) {
    flow = cache ? stateful_flow(4) : centroid_flow(4);
    flow.config.refresh_every = cache ? 1 : 5;
    EngineConfig config = tiny_config();
    config.pages = 40;
    config.prefix_cache = cache;
    Engine engine(std::make_shared<TinyModel>(), config);
    int id = engine.load_flow(flow);
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 6; ++i) requests.push_back(request_of(30, 60, 20 + i, i == 3 ? kFullAttention : id));
    for (const Request& request : requests) engine.submit(request);
    Answers answers = run_all(engine);
    Statistics statistics = engine.statistics();
    EXPECT_GT(statistics.preemptions, 2);
    EXPECT_EQ(statistics.preemptions, statistics.restores);
    EXPECT_EQ(statistics.prefill_tokens, 6 * 30) << "nothing was prefilled twice";
    EXPECT_EQ(statistics.host_bytes, 0);
    for (std::size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(answers[static_cast<std::int64_t>(i)], alone(requests[i], i == 3 ? nullptr : &flow)) << "request " << i;
  }
}

TEST(Engine, ForksGoOnAsTheirOriginalOrByTheirOwnSeed) {
  ir::Program refreshed = centroid_flow(4);
  refreshed.config.refresh_every = 7;  // a fork goes on with the set its original keeps, and with its state
  const std::pair<ir::Program, std::int64_t> cases[] = {
      {refreshed, 8}, {stateful_flow(4), 8}, {refreshed, 2}, {stateful_flow(4), 2}};
  for (const auto& [flow, batch] : cases) {  // 2: forks find the batch full and wait in host memory
    EngineConfig config = tiny_config();
    config.max_batch = batch;
    Engine engine(std::make_shared<TinyModel>(), config);
    Request request = request_of(41, 30, 7, engine.load_flow(flow));
    std::int64_t original = engine.submit(request);
    Answers answers;
    std::vector<std::int64_t> same;
    std::int64_t other = -1;
    for (int step = 0; !engine.idle(); ++step) {
      take(answers, engine.step());
      if (step == 1 || step == 9 || step == 12) {
        same.push_back(engine.fork(original, request.sampling));
        answers[same.back()] = answers[original];
      }
      if (step == 9) {
        SamplingParams sampling = request.sampling;
        sampling.seed = 1234;
        other = engine.fork(original, sampling);
        answers[other] = answers[original];
      }
      engine.check_integrity();
    }
    Answer undisturbed = alone(request, &flow);
    EXPECT_EQ(answers[original], undisturbed);
    for (std::int64_t id : same) EXPECT_EQ(answers[id], undisturbed) << "fork " << id << ", batch " << batch;
    EXPECT_NE(answers[other].tokens, undisturbed.tokens);
    EXPECT_EQ(answers[other].tokens.size(), undisturbed.tokens.size());
    if (batch == 8) {
      EXPECT_GT(engine.statistics().copied_pages, 0);
    }
  }
}

TEST(Engine, AForkOfAPromptThatStillWaitsIsARequestOfItsOwn) {
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  Request request = request_of(100, 5, 9);
  std::int64_t first = engine.submit(request), before = engine.fork(first, request.sampling);
  engine.step();  // 32 of 100 prompt tokens
  std::int64_t during = engine.fork(first, request.sampling);
  Answers answers = run_all(engine);
  Answer undisturbed = alone(request);
  for (std::int64_t id : {first, before, during}) EXPECT_EQ(answers[id], undisturbed);
}

TEST(Engine, AbortsAtAnyMoment) {
  ir::Program flow = centroid_flow(4);
  for (int moment = 0; moment < 24; ++moment) {
    EngineConfig config = tiny_config();
    config.pages = 40;
    Engine engine(std::make_shared<TinyModel>(), config);
    int id = engine.load_flow(flow);
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 5; ++i) requests.push_back(request_of(50, 20, 40 + i, id));
    for (const Request& request : requests) engine.submit(request);
    Answers answers;
    for (int step = 0; step < moment; ++step) take(answers, engine.step());
    bool aborted = engine.abort(2);
    EXPECT_EQ(aborted, answers[2].finished == FinishReason::none);
    engine.check_integrity();
    EXPECT_FALSE(aborted && engine.abort(2));
    while (!engine.idle()) take(answers, engine.step());
    engine.check_integrity();
    EXPECT_EQ(answers[2].finished, aborted ? FinishReason::aborted : FinishReason::length);
    for (std::int64_t other : {0, 1, 3, 4})
      EXPECT_EQ(answers[other], alone(requests[static_cast<std::size_t>(other)], &flow));
  }
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  EXPECT_FALSE(engine.abort(0)) << "there is no such request";
}

TEST(Engine, StopsAtStopTokensAndAtTheContext) {
  Request request = request_of(20, 12, 2);
  Answer free = alone(request);
  request.stop_tokens = {free.tokens[5]};
  auto first =
      static_cast<std::size_t>(std::find(free.tokens.begin(), free.tokens.end(), free.tokens[5]) - free.tokens.begin());
  Answer stopped = alone(request);
  EXPECT_EQ(stopped.finished, FinishReason::stop);
  EXPECT_EQ(stopped.tokens, Tokens(free.tokens.begin(), free.tokens.begin() + static_cast<std::ptrdiff_t>(first) + 1));
  request.stop_tokens.clear();
  EngineConfig config = tiny_config();
  config.max_context = 25;
  Answer shortened = alone(request, nullptr, config);
  EXPECT_EQ(shortened.finished, FinishReason::context);
  EXPECT_EQ(shortened.tokens, Tokens(free.tokens.begin(), free.tokens.begin() + 5));
}

TEST(Engine, AModelThatFailsLeavesTheEngineWhole) {
  auto model = std::make_shared<TinyModel>();
  Engine engine(model, tiny_config());
  Request request = request_of(40, 10, 3);
  std::int64_t id = engine.submit(request);
  Answers answers;
  for (int step = 0; !engine.idle(); ++step) {
    if (step == 1 || step == 6) {
      model->fail_next = true;
      EXPECT_THROW(engine.step(), std::runtime_error);
      engine.check_integrity();
    }
    take(answers, engine.step());
  }
  EXPECT_EQ(answers[id], alone(request));
  model->spoil_logits = true;
  id = engine.submit(request);
  EXPECT_EQ(run_all(engine)[id].finished, FinishReason::failed);
}

TEST(Engine, ARequestThatBansEveryTokenEndsAlone) {
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  Request request = request_of(40, 10, 3), banning = request;
  for (std::int32_t token = 0; token < 61; ++token)
    banning.sampling.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
  std::int64_t whole = engine.submit(request), banned = engine.submit(banning);
  Answers answers = run_all(engine);
  EXPECT_EQ(answers[banned].finished, FinishReason::banned);
  EXPECT_TRUE(answers[banned].tokens.empty());
  EXPECT_EQ(answers[whole], alone(request));
}

TEST(Engine, PenaltiesSeeThePromptAndTheAnswer) {
  Request request = request_of(30, 40, 2);
  request.sampling = {.presence_penalty = 1000.0f};
  Answer answer = alone(request);
  std::vector<std::int32_t> sorted = answer.tokens;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::unique(sorted.begin(), sorted.end()), sorted.end()) << "what was said is not said again";
  request.max_new_tokens = 20;
  request.sampling = {.repetition_penalty = 1000.0f};
  for (std::int32_t token = 0; token < 61; ++token) request.sampling.logit_bias.emplace_back(token, 100.0f);
  for (std::int32_t token : alone(request).tokens)
    EXPECT_EQ(std::ranges::find(request.prompt, token), request.prompt.end()) << "nor is what the prompt says";
}

TEST(Engine, AnAbortIsReportedAfterAStepThatFailed) {
  auto model = std::make_shared<TinyModel>();
  Engine engine(model, tiny_config());
  engine.submit(request_of(20, 10, 3));
  std::int64_t gone = engine.submit(request_of(20, 10, 5));
  engine.step();
  EXPECT_TRUE(engine.abort(gone));
  model->fail_next = true;
  EXPECT_THROW(engine.step(), std::runtime_error);
  Answers answers;
  take(answers, engine.step());
  EXPECT_EQ(answers[gone].finished, FinishReason::aborted);
}

TEST(Engine, AnyNumberOfNewTokensIsCutToTheContext) {
  Request request = request_of(1000, std::numeric_limits<std::int64_t>::max(), 3);
  Answer answer = alone(request);
  EXPECT_EQ(answer.finished, FinishReason::context);
  EXPECT_EQ(answer.tokens.size(), 24u);
}

std::string refusal(const EngineConfig& config, const Request& request) {
  try {
    Engine(std::make_shared<TinyModel>(), config).submit(request);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Engine, RefusesWithTheReason) {
  EngineConfig config = tiny_config();
  Request good = request_of(20, 4, 2), request = good;
  EXPECT_EQ(refusal(config, good), "");
  request.prompt.clear();
  EXPECT_EQ(refusal(config, request), "[request] a prompt of at least one token; an empty one; give a prompt");
  request = request_of(1024, 4, 2);
  EXPECT_EQ(refusal(config, request),
            "[request] a prompt shorter than the context of 1024 tokens; 1024 tokens; shorten the prompt, or raise "
            "max_context "
            "if the model allows it");
  request = good;
  request.prompt[3] = 61;
  EXPECT_EQ(refusal(config, request),
            "[request] tokens below the vocabulary of 61; token 61; encode the prompt with the model's own tokenizer");
  request = good;
  request.max_new_tokens = 0;
  EXPECT_EQ(refusal(config, request), "[request] max_new_tokens of at least 1; 0; ask for a token");
  request = good;
  request.flow = 3;
  EXPECT_EQ(refusal(config, request),
            "[request] the id of a loaded flow, or -1 for full attention; 3; use the id that load_flow returned");
  request = good;
  request.sampling.temperature = -1.0f;
  EXPECT_EQ(refusal(config, request), "[sampling] a temperature from 0 (greedy) to 100; -1; give another");
  request = good;
  request.sampling.top_p = 0.0f;
  EXPECT_EQ(refusal(config, request), "[sampling] a top_p above 0 and at most 1; 0; give another");
  config.pages = 5;
  EXPECT_EQ(refusal(config, good),
            "[request] a pool that holds the request alone: 6 pages for 24 tokens; 5 pages of 4 tokens; lower "
            "max_new_tokens, "
            "shorten the prompt, or give the engine more pages");
  config.pages = 512;
  config.memory_bytes = 100'000;
  EXPECT_EQ(refusal(config, good),
            "[engine] 512 pages of 1024 bytes (0 of them summaries), 524288 bytes in all; memory for 100000 bytes; "
            "lower `pages` "
            "or raise memory_bytes");
  config.pages = 0;
  config.memory_bytes = 1000;
  EXPECT_EQ(
      refusal(config, good),
      "[engine] memory for at least one page of 1024 bytes (0 of them summaries); 1000 bytes; raise memory_bytes");
  config.page_size = 3;
  EXPECT_EQ(refusal(config, good), "[engine] a page_size that is a power of two up to 256; 3; give another value");
  config = tiny_config();
  config.max_context = 2000;
  EXPECT_EQ(refusal(config, good),
            "[engine] max_context of at most 1024, what the model was made for; 2000; lower max_context");
}

TEST(Engine, AFlowIsPricedBeforeItIsAdmitted) {
  EngineConfig config = tiny_config();
  Engine engine(std::make_shared<TinyModel>(), config);
  int id = engine.load_flow(centroid_flow(4));
  EXPECT_EQ(engine.load_flow(centroid_flow(4)), id);
  EXPECT_NE(engine.load_flow(centroid_flow(5)), id) << "the config counts";
  auto words = [&](const ir::Program& flow) -> std::string {
    try {
      engine.load_flow(flow);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(words(centroid_flow(4, 6)),
            "[centroid] a page_size that is a multiple of the engine's, 4; 6; change the flow's page_size, or start "
            "the engine "
            "with another");
  ir::Program flow = centroid_flow(4);
  flow.config.full_attention_layers = {5};
  EXPECT_EQ(words(flow),
            "[centroid] full_attention_layers below the model's 2 layers; 5; name layers that the model has");
  flow = centroid_flow(4);
  flow.config.reuse = {{2, 1}};
  EXPECT_EQ(words(flow), "[centroid] reuse below the model's 2 layers; 2:1; name layers that the model has");

  config.memory_bytes = 512 * 1024 + 10'000;  // the pool, and not even one arena: 512 pages · (2 layers · 2 heads · 16
                                              // channels · 2 bytes + a valid bit in a byte)
  Engine full(std::make_shared<TinyModel>(), config);
  full.submit(request_of(20, 4, 2));
  try {
    full.load_flow(centroid_flow(4));
    FAIL();
  } catch (const MachineError& error) {
    EXPECT_EQ(error.required(), "memory for its summaries, 66048 bytes");
  }
  Engine early(std::make_shared<TinyModel>(), config);
  early.load_flow(centroid_flow(4));
  try {
    early.submit(request_of(20, 4, 2));
    FAIL();
  } catch (const MachineError& error) {
    EXPECT_EQ(error.required(), "512 pages of 1153 bytes (129 of them summaries), 590336 bytes in all");
  }
}

// Room for the sets that two sequences keep, beside the pool and the summaries.
TEST(Engine, WhatAFlowCarriesIsPricedBeforeARequestIsAdmitted) {
  ir::Program flow = centroid_flow(4);
  flow.config.refresh_every = 4;
  EngineConfig config = tiny_config();
  const std::int64_t carried = 4 * (2 * 2 * (15 + 1) + 2);  // 60 tokens, 15 pages; 2 layers, 2 KV heads
  config.memory_bytes = 512 * 1153 + 2 * carried + 100;
  Engine engine(std::make_shared<TinyModel>(), config);
  const int id = engine.load_flow(flow);
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 5; ++i) requests.push_back(request_of(20, 40, 30 + i, id));
  for (const Request& request : requests) engine.submit(request);
  Answers answers;
  std::int64_t most = 0, running = 0;
  while (!engine.idle()) {
    take(answers, engine.step());
    engine.check_integrity();
    most = std::max(most, engine.statistics().carried_bytes);
    running = std::max(running, engine.statistics().running);
  }
  EXPECT_EQ(most, 2 * carried);
  EXPECT_EQ(running, 2);
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(answers[static_cast<std::int64_t>(i)], alone(requests[i], &flow)) << "request " << i;

  try {
    engine.submit(request_of(20, 900, 2, id));
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[request] memory for what the flow carries from step to step, 3704 bytes for 920 tokens; 628 bytes "
                 "left; lower max_new_tokens, lower the engine's `pages`, or raise memory_bytes");
  }
}

}  // namespace
}  // namespace vortex::engine
