// A random workload over a small pool: arrivals, forks, aborts, several flows, prompts that share prefixes, full
// integrity checks, and every answer compared with that of its undisturbed run.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "attention/types.h"
#include "tiny.h"

namespace vortex::engine {
namespace {

class Soak : public ::testing::TestWithParam<attention::KvType> {};

TEST_P(Soak, RandomWorkload) {
  const char* given = std::getenv("VORTEX_TEST_SEED");
  std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "VORTEX_TEST_SEED=" << seed << "\n";
  std::mt19937_64 random(seed);
  auto below = [&](std::int64_t end) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end)); };

  ir::Program flows[] = {centroid_flow(3), centroid_flow(6, 8), centroid_flow(5), stateful_flow(4), centroid_flow(4)};
  flows[1].config.reuse = {{1, 0}};
  flows[2].config.refresh_every = 3;
  ir::add_layers(flows[4], {0}, stateful_flow(7), {});
  EngineConfig config = tiny_config();
  config.pages = 72;
  config.max_batch = 6;
  config.threads = 2;
  config.kv_type = GetParam();
  EngineConfig undisturbed = tiny_config();
  undisturbed.kv_type = config.kv_type;
  Engine engine(std::make_shared<TinyModel>(), config);
  const int ids[] = {engine.load_flow(flows[0]), engine.load_flow(flows[1]), engine.load_flow(flows[2]),
                     engine.load_flow(flows[3]), engine.load_flow(flows[4])};

  struct Sent {
    Request request;
    int which;  // flow index, -1: full attention
    bool aborted = false;
  };
  std::map<std::int64_t, Sent> sent;
  Answers answers;
  int arrivals = 40, forks = 0, aborts = 0;
  while (arrivals > 0 || !engine.idle()) {
    if (arrivals > 0 && below(4) == 0) {
      Sent it;
      it.which = static_cast<int>(below(6)) - 1;
      it.request.flow = it.which < 0 ? kFullAttention : ids[it.which];
      it.request.prompt = random_tokens(below(60), 7);  // one of few beginnings
      for (std::int32_t token : random_tokens(1 + below(60), random())) it.request.prompt.push_back(token);
      it.request.max_new_tokens = 1 + below(50);
      if (below(2) == 0) it.request.sampling = {.temperature = 0.8f, .top_k = 10, .seed = random()};
      sent.emplace(engine.submit(it.request), it);
      --arrivals;
    }
    if (!sent.empty() && below(16) == 0) {
      auto it = sent.begin();
      std::advance(it, below(static_cast<std::int64_t>(sent.size())));
      if (answers[it->first].finished == FinishReason::none && !it->second.aborted) {
        if (below(2) == 0) {
          std::int64_t id = engine.fork(it->first, it->second.request.sampling);
          answers[id] = answers[it->first];
          sent.emplace(id, it->second);
          ++forks;
        } else {
          ASSERT_TRUE(engine.abort(it->first));
          it->second.aborted = true;
          ++aborts;
        }
      }
    }
    take(answers, engine.step());
    engine.check_integrity();
  }
  for (const auto& [id, it] : sent) {
    if (it.aborted) {
      EXPECT_EQ(answers[id].finished, FinishReason::aborted);
      continue;
    }
    EXPECT_EQ(answers[id], alone(it.request, it.which < 0 ? nullptr : &flows[it.which], undisturbed))
        << "request " << id;
  }
  Statistics statistics = engine.statistics();
  std::cout << sent.size() << " requests, " << forks << " forks, " << aborts << " aborts, " << statistics.preemptions
            << " preemptions, " << statistics.prefix_hit_tokens << " prefix hits, " << statistics.evicted_pages
            << " evictions, " << statistics.rebuilt_summaries << " summaries rebuilt\n";
  EXPECT_EQ(statistics.free_pages + statistics.cached_pages, 72);
  EXPECT_EQ(statistics.host_bytes, 0);
  EXPECT_EQ(statistics.carried_bytes, 0);
  EXPECT_GT(statistics.preemptions, 0);
  EXPECT_GT(statistics.prefix_hit_tokens, 0);
  EXPECT_GT(statistics.evicted_pages, 0);
}

INSTANTIATE_TEST_SUITE_P(KvTypes, Soak, ::testing::Values(attention::KvType::bfloat16, attention::KvType::int8),
                         [](const auto& type) { return std::string(attention::name_of(type.param)); });

}  // namespace
}  // namespace vortex::engine
