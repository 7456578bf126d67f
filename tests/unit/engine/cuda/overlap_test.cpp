// Steps that are launched before the one before them has been read: requests are answered as they are without, whatever
// ends them, on a device that does nothing until the host waits.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "engine/engine.h"
#include "models/model.h"
#include "support/flows.h"
#include "support/late_device.h"
#include "support/random_llama.h"

namespace vortex::engine {
namespace {

constexpr int kVocabulary = 200;

struct Answer {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  FinishReason finished = FinishReason::none;

  bool operator==(const Answer&) const = default;
};
using Answers = std::map<std::int64_t, Answer>;

struct Served {
  std::shared_ptr<testing::LateDevice> device = std::make_shared<testing::LateDevice>(kVocabulary);
  std::shared_ptr<models::Model> model;
  std::unique_ptr<Engine> engine;

  explicit Served(bool overlap, std::int64_t pages = 300) : model(make(device)) { serve_with(overlap, pages); }
  // Of the same model.
  Served(const Served& beside, bool overlap) : device(beside.device), model(beside.model) { serve_with(overlap, 300); }

  static std::shared_ptr<models::Model> make(const std::shared_ptr<testing::LateDevice>& device) {
    models::ModelConfig config = testing::tiny_llama_config();
    config.width = 128, config.ffn_width = 256, config.head_dim = 64, config.heads = 6, config.kv_heads = 2;
    config.vocabulary = kVocabulary, config.context = 2048;
    const testing::RandomLlama llama = testing::random_llama(config, 7, kernels::WeightFormat::bf16);
    ThreadPool pool(1);
    return models::make_model(config, testing::WeightsInMemory(llama.weights), pool, device);
  }
  void serve_with(bool overlap, std::int64_t pages) {
    engine = std::make_unique<Engine>(model, EngineConfig{.page_size = 16,
                                                          .pages = pages,
                                                          .max_batch = 5,
                                                          .chunk_tokens = 200,
                                                          .max_context = 512,
                                                          .threads = 1,
                                                          .overlap = overlap});
  }

  void take(const std::vector<Event>& events, Answers& to) {
    for (const Event& event : events) {
      Answer& of = to[event.request];
      EXPECT_EQ(of.finished, FinishReason::none) << "request " << event.request << " had ended";
      if (event.token >= 0) of.tokens.push_back(event.token), of.logprobs.push_back(event.logprob);
      of.finished = event.finished;
    }
  }
  Answers serve() {
    Answers out;
    while (!engine->idle()) take(engine->step(), out);
    engine->check_integrity();
    return out;
  }
};

Request request_of(std::int64_t prompt, std::uint64_t seed, std::int64_t most) {
  std::mt19937_64 random(seed);
  Request out;
  out.prompt.resize(static_cast<std::size_t>(prompt));
  for (auto& token : out.prompt) token = static_cast<std::int32_t>(random() % kVocabulary);
  out.max_new_tokens = most;
  return out;
}

TEST(Overlap, TheNextStepIsLaunchedBeforeTheHostHasTheTokens) {
  for (const bool overlap : {true, false}) {
    Served at(overlap);
    at.engine->submit(request_of(30, 1, 20));
    std::int64_t steps = 0;
    while (!at.engine->idle()) {
      EXPECT_EQ(at.engine->step().size(), 1u) << "a token a step";
      ++steps;
    }
    EXPECT_EQ(steps, 20) << "its length is known: no step is made in vain";
    EXPECT_EQ(at.device->waits_amid_work(), overlap ? 19 : 0);
    EXPECT_EQ(at.engine->statistics().decode_tokens, 19);
  }
}

TEST(Overlap, AStopTokenIsSeenAStepLateAndNothingOfThatStepIsSaid) {
  Served first(false);
  first.engine->submit(request_of(30, 1, 40));
  const std::vector<std::int32_t> whole = first.serve().at(0).tokens;
  for (const bool overlap : {true, false}) {
    Served at(overlap);
    Request request = request_of(30, 1, 40);
    request.stop_tokens = {whole[17]};
    at.engine->submit(request);
    const Answer answer = at.serve().at(0);
    EXPECT_EQ(answer.finished, FinishReason::stop);
    EXPECT_EQ(answer.tokens.back(), whole[17]);
    EXPECT_LE(answer.tokens.size(), 18u);
    EXPECT_EQ(at.engine->statistics().device_choices, static_cast<std::int64_t>(answer.tokens.size()));
    EXPECT_EQ(at.engine->statistics().free_pages + at.engine->statistics().cached_pages, 300);
  }
}

TEST(Overlap, ChoicesOfTheHostAreMadeBeforeTheNextStep) {
  Served at(true);
  Request request = request_of(30, 1, 20);
  request.sampling.presence_penalty = 0.5f;
  at.engine->submit(request);
  at.serve();
  EXPECT_EQ(at.device->waits_amid_work(), 0);
  EXPECT_EQ(at.engine->statistics().host_choices, 20);
}

TEST(Overlap, EnginesOfAModelTakeTurnsOnTheDevice) {
  Served alone(true);
  alone.engine->submit(request_of(30, 1, 20));
  const Answers whole = alone.serve();
  EXPECT_EQ(alone.device->waits_for_others(), 0);

  Served one(true);
  Served other(one, true);
  one.engine->submit(request_of(30, 1, 20)), other.engine->submit(request_of(30, 1, 20));
  Answers of_one, of_other;
  while (!one.engine->idle() || !other.engine->idle()) {
    one.take(one.engine->step(), of_one);
    other.take(other.engine->step(), of_other);
  }
  EXPECT_TRUE(of_one == whole && of_other == whole);
  EXPECT_GE(one.device->waits_for_others(), 2 * 18) << "a step of either follows one of the other";
}

TEST(Overlap, AnAbortAndAForkMeetAStepOnItsWay) {
  Served at(true);
  Answers answers;
  const std::int64_t request = at.engine->submit(request_of(30, 1, 40)),
                     other = at.engine->submit(request_of(9, 2, 40));
  for (int i = 0; i < 5; ++i) at.take(at.engine->step(), answers);
  EXPECT_TRUE(at.engine->abort(request));
  EXPECT_FALSE(at.engine->abort(request));
  const std::int64_t copy = at.engine->fork(other, {});
  at.engine->check_integrity();
  while (!at.engine->idle()) at.take(at.engine->step(), answers);
  EXPECT_EQ(answers[request].finished, FinishReason::aborted);
  EXPECT_EQ(answers[request].tokens.size(), 5u);
  EXPECT_EQ(answers[other].tokens.size(), 40u);
  EXPECT_EQ(answers[copy].tokens,
            std::vector<std::int32_t>(answers[other].tokens.begin() + 6, answers[other].tokens.end()));
  at.engine->check_integrity();
}

// Random requests with too few pages: prefixes that are shared, flows that carry state and sets, draws, choices of the
// host, stop tokens, aborts, forks.
TEST(Overlap, AnswersAreThoseWithout) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    Answers answers[2];
    std::map<std::int64_t, bool> cut;  // aborted: answered as far as it went
    for (const bool overlap : {false, true}) {
      Served at(overlap, 45);
      const auto flow_of = [&](const testing::NamedFlow& flow, const char* config) {
        ir::Program program = ir::parse(flow.text(config));
        ir::verify(program);
        return at.engine->load_flow(program);
      };
      const int flows[] = {flow_of(testing::centroid_flow(), "budget=6 page_size=16"),
                           flow_of(testing::gathering_flow(), "budget=6 page_size=16"),
                           flow_of(testing::centroid_flow(), "budget=6 page_size=16 refresh_every=5"), kFullAttention};
      std::mt19937_64 random(seed);
      Answers& out = answers[overlap ? 1 : 0];
      std::int64_t submitted = 0;
      constexpr std::int64_t kRequests = 60;
      while (submitted < kRequests || !at.engine->idle()) {
        if (submitted < kRequests && random() % 2 == 0) {
          // Nothing of a request depends on the steps so far.
          std::mt19937_64 of_request(seed * 1000 + static_cast<std::uint64_t>(submitted));
          Request request = request_of(1 + static_cast<std::int64_t>(of_request() % 300), of_request() % 4,
                                       1 + static_cast<std::int64_t>(of_request() % 150));
          request.flow = flows[of_request() % 4];
          if (of_request() % 3 == 0) request.sampling.temperature = 1.0f, request.sampling.seed = of_request();
          if (of_request() % 8 == 0) request.sampling.presence_penalty = 0.5f;
          for (int i = 0; i < 2; ++i)
            request.stop_tokens.push_back(static_cast<std::int32_t>(of_request() % kVocabulary));
          const std::int64_t id = at.engine->submit(std::move(request));
          ASSERT_EQ(id, submitted++);
        }
        if (random() % 20 == 0 && submitted > 0) {
          const auto id = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(submitted));
          if (at.engine->abort(id)) cut[id] = true;
        }
        at.take(at.engine->step(), out);
        at.engine->check_integrity();
      }
      EXPECT_GT(at.engine->statistics().preemptions, 0);
      EXPECT_EQ(at.engine->statistics().carried_bytes, 0);
      if (overlap)
        EXPECT_GT(at.device->waits_amid_work(), at.engine->statistics().steps / 8);
      else
        EXPECT_EQ(at.device->waits_amid_work(), 0);
    }
    ASSERT_EQ(answers[0].size(), answers[1].size());
    for (const auto& [id, answer] : answers[0]) {
      const Answer& other = answers[1].at(id);
      if (!cut[id]) {
        EXPECT_EQ(other, answer) << "request " << id << ", seed " << seed;
        continue;
      }
      const std::size_t both = std::min(other.tokens.size(), answer.tokens.size());
      EXPECT_TRUE(std::equal(answer.tokens.begin(), answer.tokens.begin() + static_cast<std::ptrdiff_t>(both),
                             other.tokens.begin()))
          << "request " << id << ", seed " << seed;
    }
  }
}

}  // namespace
}  // namespace vortex::engine
