// The engine on the device that has none: all host code of a step on a GPU runs, sizes and ranges are checked, tokens
// mean nothing. And what a GPU does not serve, in words.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <functional>
#include <map>
#include <random>
#include <set>

#include "attention/layer.h"
#include "device/null/null_device.h"
#include "engine/backend.h"
#include "engine/cuda/flow_memory.h"
#include "engine/engine.h"
#include "engine/workbench.h"
#include "support/flows.h"
#include "support/random_llama.h"

namespace vortex::engine {
namespace {

using Tokens = std::vector<std::int32_t>;
using Sequences = std::vector<Workbench::Sequence>;

models::ModelConfig config_of(const std::string& architecture) {
  models::ModelConfig config = testing::tiny_llama_config();
  config.architecture = architecture;
  config.width = 128, config.ffn_width = 256, config.head_dim = 64, config.heads = 6, config.kv_heads = 2;
  config.vocabulary = 200, config.context = 2048;
  return config;
}

class NoAttention final : public attention::LayerAttention {
 public:
  void run(std::int32_t, const float*, const float*, const float*, float*) override { FAIL(); }
};

std::shared_ptr<models::Model> model_on(const models::ModelConfig& config,
                                        const std::shared_ptr<device::Device>& device) {
  testing::RandomLlama llama = testing::random_llama(config, 7, kernels::WeightFormat::bf16);
  if (config.architecture == "qwen2") {
    std::mt19937_64 random(8);
    for (std::int64_t i = 0; i < config.layers; ++i)
      for (const auto& [name, heads] : {std::pair("q", config.heads), {"k", config.kv_heads}, {"v", config.kv_heads}})
        llama.add(concat("model.layers.", i, ".self_attn.", name, "_proj.bias"), 1, heads * config.head_dim,
                  kernels::WeightFormat::f32, random, 0.0f, 0.5f);
  }
  ThreadPool pool(1);
  return models::make_model(config, testing::WeightsInMemory(llama.weights), pool, device);
}

EngineConfig settings() {
  return {.page_size = 16, .pages = 300, .max_batch = 5, .chunk_tokens = 300, .max_context = 1024, .threads = 1};
}

ir::Program flow_of(const testing::NamedFlow& flow, const std::string& config) {
  ir::Program program = ir::parse(flow.text(config));
  ir::verify(program);
  return program;
}

std::string words(const std::function<void()>& work) {
  try {
    work();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

Tokens tokens_of(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Tokens out(static_cast<std::size_t>(count));
  for (auto& token : out) token = static_cast<std::int32_t>(random() % 200);
  return out;
}

std::int64_t launched(const device::NullDevice& device, const std::string& part) {
  return std::ranges::count_if(device.log(), [&](const auto& line) { return line.find(part) != std::string::npos; });
}

TEST(EngineOnADevice, AWorkbenchPrefillsForksAndDecodes) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    const auto device = std::make_shared<device::NullDevice>();
    Workbench bench(model_on(config_of(architecture), device), settings());
    const int flow = bench.load_flow(flow_of(testing::quest_flow(), "budget=8 page_size=32"));
    const int pinned = bench.load_flow(ir::parse("vortex_ir 1\nflow \"recent\"\nconfig budget=8 page_size=16\n"));
    const Workbench::Sequence base = bench.prefill(tokens_of(700, 1));
    Sequences arms = {bench.fork(base, kFullAttention), bench.fork(base, flow), bench.fork(base, flow),
                      bench.fork(base, pinned)};
    bench.record_pages(true);
    const std::span<const float> logits = bench.decode(arms, Tokens{1, 2, 3, 4});
    EXPECT_EQ(logits.size(), 4u * 200u);
    EXPECT_EQ(bench.statistics().rebuilt_summaries, 700 / 32 - 2) << "candidates: full pages but for sinks and recent";
    EXPECT_EQ(bench.statistics().rows, 4 * 2 * 2);
    EXPECT_EQ(bench.statistics().sparse_rows, 3 * 2 * 2);
    EXPECT_EQ(launched(*device, "graph of"), 3) << "one for each flow and one for full attention";
    for (int step = 0; step < 40; ++step) bench.greedy(arms, Tokens{1, 2, 3, 4}, 1);
    EXPECT_EQ(bench.statistics().rebuilt_summaries, 700 / 32 - 2 + 1)
        << "page 20 was prefilled; page 21 was finished by decoding";
    const std::int64_t graphs = launched(*device, "graph of");
    bench.greedy(Sequences{arms[1], arms[2]}, Tokens{1, 2}, 100);  // without the host between the steps
    EXPECT_EQ(launched(*device, "graph of"), graphs + 100);
    EXPECT_EQ(bench.statistics().rebuilt_summaries, 700 / 32 - 2 + 1);
    EXPECT_EQ(bench.length(arms[2]), 700 + 1 + 40 + 100);
    EXPECT_EQ(bench.feed(Sequences{arms[3]}, tokens_of(130, 2)).size(), 130u);
    EXPECT_EQ(bench.length(arms[3]), 700 + 1 + 40 + 130);
    bench.truncate(arms[1], 650);
    bench.greedy(arms, Tokens{1, 2, 3, 4}, 3);
    bench.check_integrity();
    for (const Workbench::Sequence arm : arms) bench.release(arm);
    bench.release(base);
    bench.unload_flow(flow);
    EXPECT_EQ(bench.free_pages(), 300);
  }
}

TEST(EngineOnADevice, PlansSetsRestsAndBudgets) {
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("llama"), device), settings());
  const Workbench::Sequence base = bench.prefill(tokens_of(700, 1));
  struct Case {
    testing::NamedFlow flow;
    const char* config;
    std::int64_t candidates, reused;  // of the two layers' rows in a step
  };
  for (const Case& at : {Case{testing::top_p_flow(), "page_size=16", 2 * 2 * 41, 0},
                         Case{testing::two_streams_flow(), "page_size=16", 2 * 2 * 41, 0},
                         Case{testing::rest_flow(), "budget=8 page_size=16", 2 * 2 * 41, 0},
                         Case{testing::confined_flow(), "budget=8 page_size=16", 2 * 2 * 41, 0},
                         Case{testing::budgeted_flow(), "budget=0 page_size=16", 2 * 2 * 41, 0},
                         Case{testing::centroid_flow(), "budget=8 page_size=16 reuse=1:0", 2 * 41, 2},
                         Case{testing::centroid_flow(), "budget=8 page_size=16 refresh_every=4", 2 * 2 * 41, 0}}) {
    const int flow = bench.load_flow(flow_of(at.flow, at.config));
    const Sequences arm{bench.fork(base, flow)};
    bench.reset_statistics();
    bench.greedy(arm, Tokens{1}, 1);
    EXPECT_EQ(bench.statistics().candidate_pages, at.candidates) << at.flow.name;
    EXPECT_EQ(bench.statistics().reused_rows, at.reused) << at.flow.name;
    EXPECT_EQ(bench.statistics().sparse_rows, 2 * 2) << at.flow.name;
    bench.reset_statistics();
    bench.greedy(arm, Tokens{1}, 3);
    if (std::string(at.config).find("refresh") != std::string::npos) {  // three steps with the lists of the first
      EXPECT_EQ(bench.statistics().candidate_pages, 0);
      EXPECT_EQ(bench.statistics().reused_rows, 3 * 2 * 2);
    }
    bench.greedy(arm, Tokens{1}, 30);
    bench.check_integrity();
    bench.release(arm[0]);
    bench.unload_flow(flow);
  }
}

TEST(EngineOnADevice, ServesRequestsOfSeveralFlowsWithTooFewPages) {
  const auto device = std::make_shared<device::NullDevice>();
  EngineConfig config = settings();
  config.pages = 45;
  Engine engine(model_on(config_of("llama"), device), config);
  const int flow = engine.load_flow(flow_of(testing::centroid_flow(), "budget=6 page_size=16"));
  const int with_state = engine.load_flow(flow_of(testing::gathering_flow(), "budget=6 page_size=16"));
  const int with_sets = engine.load_flow(flow_of(testing::centroid_flow(), "budget=6 page_size=16 refresh_every=5"));
  std::mt19937_64 random(3);
  std::int64_t submitted = 0, finished = 0;
  while (submitted < 30 || !engine.idle()) {
    if (submitted < 30 && random() % 2 == 0) {
      Request request;
      request.prompt = tokens_of(1 + static_cast<std::int64_t>(random() % 300), random() % 4);
      request.max_new_tokens = 1 + static_cast<std::int64_t>(random() % 200);
      const int flows[] = {flow, with_state, with_state, with_sets, kFullAttention};
      request.flow = flows[random() % 5];
      if (random() % 4 == 0) request.sampling.temperature = 1.0f;
      if (random() % 4 == 0) request.sampling.presence_penalty = 0.5f;
      const std::int64_t id = engine.submit(std::move(request));
      if (random() % 8 == 0) engine.abort(id);
      ++submitted;
    }
    for (const Event& event : engine.step()) finished += event.finished != FinishReason::none;
  }
  EXPECT_EQ(finished, 30);
  const Statistics statistics = engine.statistics();
  EXPECT_GT(statistics.preemptions, 0);
  EXPECT_GT(statistics.device_choices, 0);
  EXPECT_GT(statistics.host_choices, 0);
  EXPECT_EQ(statistics.carried_bytes, 0);
  engine.check_integrity();
}

TEST(EngineOnADevice, StateLiesThereWithItsSequence) {
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("llama"), device), settings());
  const int flow = bench.load_flow(flow_of(testing::gathering_flow(), "budget=8 page_size=16"));
  const Workbench::Sequence base = bench.prefill(tokens_of(700, 1));
  bench.greedy(Sequences{bench.fork(base, flow)}, Tokens{1}, 1);  // graphs and buffers are made
  const std::int64_t before = device->allocated_bytes();
  const Workbench::Sequence arm = bench.fork(base, flow);
  bench.decode(Sequences{arm}, Tokens{1});
  // 2 halves, layers and KV heads; 55 pages of room for 700 + 1 tokens and a quarter more, and a number of the row.
  const std::int64_t bytes = 2 * 2 * 2 * (55 + 1) * 4;
  EXPECT_EQ(device->allocated_bytes(), before + bytes);
  const Workbench::Sequence other = bench.fork(arm, flow);
  EXPECT_EQ(device->allocated_bytes(), before + 2 * bytes);
  bench.greedy(Sequences{arm, other}, Tokens{1, 2}, 100);
  EXPECT_EQ(device->allocated_bytes(), before + 2 * bytes);
  bench.release(arm);
  EXPECT_EQ(device->allocated_bytes(), before + bytes);
  bench.release(other);
  EXPECT_EQ(device->allocated_bytes(), before);
  bench.check_integrity();
}

TEST(EngineOnADevice, LayersHaveFlowsOfTheirOwn) {
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("llama"), device), settings());
  ir::Program program = flow_of(testing::centroid_flow(), "budget=8 page_size=16");
  ir::add_layers(program, {1}, flow_of(testing::gathering_flow(), "budget=20 page_size=16"), {});
  ir::verify(program);
  const int flow = bench.load_flow(program);
  const Workbench::Sequence base = bench.prefill(tokens_of(700, 1));
  EXPECT_EQ(bench.summary_bytes(), 300 * 2 * 2 * 64 * 2)
      << "a centroid a page of each layer, in the flow that works there";
  const Sequences arms = {bench.fork(base, flow), bench.fork(base, kFullAttention)};
  bench.record_pages(true);
  bench.decode(arms, Tokens{1, 2});
  EXPECT_EQ(bench.statistics().sparse_rows, 2 * 2);
  EXPECT_EQ(bench.statistics().rebuilt_summaries, 2 * (700 / 16 - 1 - 1)) << "of each flow";
  bench.greedy(Sequences{arms[0]}, Tokens{1}, 100);

  ir::Program kept = flow_of(testing::centroid_flow(), "budget=8 page_size=16 refresh_every=4");
  ir::add_layers(kept, {1}, flow_of(testing::quest_flow(), "budget=20 page_size=16"), {});
  const Sequences keeper{bench.fork(base, bench.load_flow(kept))};
  bench.reset_statistics();
  bench.greedy(keeper, Tokens{1}, 4);
  EXPECT_EQ(bench.statistics().candidate_pages, 2 * 2 * 41) << "at the first of four steps";
  EXPECT_EQ(bench.statistics().reused_rows, 3 * 2 * 2);
  bench.check_integrity();
}

TEST(EngineOnADevice, KAndVLieThereInBytes) {
  for (const attention::KvType kv : {attention::KvType::int8, attention::KvType::fp8}) {
    const auto device = std::make_shared<device::NullDevice>();
    EngineConfig config = settings();
    config.kv_type = kv;
    Workbench bench(model_on(config_of("llama"), device), config);
    const int flow = bench.load_flow(flow_of(testing::quest_flow(), "budget=8 page_size=16"));
    const Workbench::Sequence base = bench.prefill(tokens_of(700, 1)), filled = bench.fill(100, 3);
    // 2 layers, 2 KV heads, K and V: 64 bytes and a scale a token.
    EXPECT_EQ(bench.save(base).size(), 44u * 2 * 2 * 2 * 16 * (64 + 4));
    bench.reset_statistics();
    const Sequences arms = {bench.fork(base, flow), bench.fork(base, kFullAttention)};
    bench.greedy(arms, Tokens{1, 2}, 40);
    EXPECT_EQ(bench.statistics().kv_bytes, bench.statistics().attended_tokens * 2 * (64 + 4));
    const Workbench::Sequence back = bench.restore(bench.save(base), 700);
    for (const Workbench::Sequence each : {base, filled, arms[0], arms[1], back}) bench.release(each);
    bench.check_integrity();
  }
}

TEST(EngineOnADevice, ASteadyStepAllocatesNothingThere) {
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("qwen3"), device), settings());
  const int flow = bench.load_flow(flow_of(testing::centroid_flow(), "budget=8 page_size=16"));
  const Sequences arm = {bench.fork(bench.fill(600, 1), flow)};
  bench.greedy(arm, Tokens{1}, 2);
  const std::int64_t before = device->allocated_bytes();
  bench.greedy(arm, Tokens{1}, 50);
  EXPECT_EQ(device->allocated_bytes(), before);
}

TEST(EngineOnADevice, SaysWhatItDoesNotServe) {
  const auto device = std::make_shared<device::NullDevice>();
  EXPECT_EQ(words([&] { model_on(testing::tiny_experts_config(), device); }),
            "[model] on null one of the architectures llama, qwen2, qwen3; qwen3_moe; run this model on the cpu");
  EXPECT_EQ(words([&] { model_on(testing::tiny_latent_config(), device); }),
            "[model] on null one of the architectures llama, qwen2, qwen3; deepseek_v2; run this model on the cpu");
  models::ModelConfig narrow = config_of("llama");
  narrow.head_dim = 32;
  EXPECT_EQ(
      words([&] { Workbench(model_on(narrow, device), settings()); }),
      "[attend] head_dim 64 or 128, values of as many channels and at most 16 query heads a KV head were required on "
      "CUDA; head_dim 32, value_dim 0, group 3; run this model on the cpu");
  const auto model = model_on(config_of("llama"), device);
  EngineConfig config = settings();
  config.max_batch = 300;
  EXPECT_EQ(words([&] { Workbench(model, config); }),
            "[engine] a max_batch of at most 256 on cuda; 300; lower max_batch");
  ThreadPool pool(1);
  NoAttention none;
  EXPECT_EQ(words([&] { model->step({}, none, pool); }),
            "[model] a model on the cpu for a step with attention on the cpu; one on null: plans without hardware; run "
            "it in an Engine or a Workbench, or load it with device cpu");
  Workbench bench(model, settings());
  EXPECT_EQ(words([&] { bench.load_flow(flow_of(testing::centroid_flow(), "budget=8 page_size=2048")); }),
            "[centroid] a page_size of at most 1024 tokens on cuda, 64 of the engine's pages; 2048; lower the flow's "
            "page_size, or raise the engine's");
}

TEST(EngineOnADevice, ADeterministicStepHasOneSizeWhateverTheCompany) {
  const auto of = [](bool deterministic) {
    const auto device = std::make_shared<device::NullDevice>();
    EngineConfig config = settings();
    config.deterministic = deterministic;
    Workbench bench(model_on(config_of("llama"), device), config);
    const int flow = bench.load_flow(flow_of(testing::centroid_flow(), "budget=8 page_size=16"));
    std::set<std::string> attends;  // grids of the kernels that a captured step consists of
    const auto decode = [&](std::int64_t count, std::int64_t tokens) {
      Sequences arms;
      const Workbench::Sequence base = bench.fill(tokens, 1);
      for (std::int64_t i = 0; i < count; ++i) arms.push_back(bench.fork(base, flow));
      const std::size_t before = device->log().size();
      bench.decode(arms, Tokens(static_cast<std::size_t>(count), 1));
      for (std::size_t i = before; i < device->log().size(); ++i)
        if (device->log()[i].starts_with("captured kernel")) attends.insert(device->log()[i]);
      for (const Workbench::Sequence arm : arms) bench.release(arm);
      bench.release(base);
    };
    decode(1, 100);
    const std::size_t alone = attends.size();
    decode(5, 100), decode(1, 900), decode(3, 700);
    return std::pair(alone, attends.size());
  };
  const auto [alone, all] = of(true);
  EXPECT_EQ(alone, all);
  const auto [few, many] = of(false);
  EXPECT_LT(few, many);
}

TEST(EngineOnADevice, AStepIsProfiledByKernels) {
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("llama"), device), settings());
  const int flow = bench.load_flow(flow_of(testing::centroid_flow(), "budget=8 page_size=16"));
  const Workbench::Sequence base = bench.fill(600, 1), other = bench.fork(base, flow), arm = bench.fork(base, flow);
  const StepProfile profile = bench.profile(Sequences{other, arm}, Tokens{1, 2});
  EXPECT_EQ(bench.length(arm), 601);
  std::map<std::string, std::int64_t> launches;
  for (const device::KernelTime& it : profile.kernels)
    launches[it.kernel == "linear" ? it.module : it.kernel.starts_with("attend") ? "attend" : it.kernel] += it.launches;
  EXPECT_EQ(launches.at("linear_plain"), 2) << "one a layer";
  EXPECT_EQ(launches.at("attend"), 2);
  EXPECT_EQ(launches.at("choose"), 1);
  std::int64_t all = 0;
  for (const auto& [name, count] : launches) all += count;
  EXPECT_EQ(profile.launches, all);
  EXPECT_EQ(words([&] {
              bench.profile(Sequences{other, bench.fork(base, kFullAttention)}, Tokens{1, 2});
            }),
            "[workbench] sequences of one flow, whose step is one graph; flows 0 and -1; profile them by themselves");
  Workbench on_cpu(model_on(config_of("llama"), nullptr), settings());
  EXPECT_EQ(
      words([&] { on_cpu.profile(Sequences{on_cpu.fill(30, 1)}, Tokens{1}); }),
      "[profile] a model on a device, whose steps are kernels; one on the cpu; load it with device cuda; on the cpu "
      "vortex bench shows the parts of every step");
}

TEST(EngineOnADevice, WhatIsRefusedIsSaidWithoutADevice) {
  const attention::Geometry geometry{.layers = 2, .kv_heads = 2, .group = 3, .head_dim = 64, .page_size = 16};
  const ir::Program large = flow_of(testing::centroid_flow(), "budget=8 page_size=2048");
  EXPECT_NE(words([&] {
              require_served(large, device::Kind::cuda, geometry);
            }).find("a page_size of at most 1024 tokens on cuda"),
            std::string::npos);
  require_served(large, device::Kind::cpu, geometry);
  require_served(flow_of(testing::quest_flow(), "budget=8 page_size=32"), device::Kind::cuda, geometry);
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("llama"), device), settings());
  EXPECT_NE(words([&] { bench.build_ahead(large); }).find("a page_size of at most"), std::string::npos);
  const std::int64_t before = device->allocated_bytes();
  bench.build_ahead(flow_of(testing::quest_flow(), "budget=8 page_size=32"));
  EXPECT_EQ(device->allocated_bytes(), before) << "nothing of it is on the device";
}

TEST(EngineOnADevice, TooLittleMemoryIsSaidBeforeAnythingRuns) {
  const auto device = std::make_shared<device::NullDevice>();
  EngineConfig config = settings();
  config.memory_bytes = 100'000;
  config.pages = 0;
  Workbench bench(model_on(config_of("llama"), device), config);
  bench.load_flow(flow_of(testing::centroid_flow(), "budget=8 page_size=16"));
  config.pages = 300;
  Workbench other(model_on(config_of("llama"), device), config);
  try {
    other.prefill(tokens_of(10, 1));
    FAIL();
  } catch (const MachineError& error) {
    EXPECT_STREQ(error.what(),
                 "[engine] 300 pages of 16384 bytes (0 of them summaries), 4915200 bytes in all; memory for 100000 "
                 "bytes; lower `pages` or raise memory_bytes");
  }
}

// What fails in its turn, memory, kernels and graphs one after another, is said, and leaves a workbench that goes on.
TEST(EngineOnADevice, AStepThatFailedCanBeMadeAgain) {
  const auto device = std::make_shared<device::NullDevice>();
  Workbench bench(model_on(config_of("llama"), device), settings());
  const int flow = bench.load_flow(flow_of(testing::centroid_flow(), "budget=8 page_size=16"));
  const int with_state = bench.load_flow(flow_of(testing::gathering_flow(), "budget=8 page_size=16"));
  const Workbench::Sequence base = bench.prefill(tokens_of(700, 1));
  const Sequences arms = {bench.fork(base, flow), bench.fork(base, with_state)};
  const auto until_it_works = [&](const char* what, const std::function<void()>& action) {
    for (std::int64_t work = 1;; ++work) {
      ASSERT_LT(work, 2000) << what;
      device->fail_at(work);
      try {
        action();
        device->fail_at(0);
        EXPECT_GT(work, 1) << what << ": nothing was tested";
        bench.check_integrity();
        return;
      } catch (const MachineError& error) {
        EXPECT_EQ(error.where(), "device null") << error.what();
      }
      ASSERT_NO_THROW(bench.check_integrity()) << what << ", work " << work;
    }
  };
  until_it_works("decode", [&] { bench.decode(arms, Tokens{1, 2}); });
  EXPECT_EQ(bench.length(arms[1]), 701);
  EXPECT_EQ(bench.statistics().rebuilt_summaries, 2 * (700 / 16 - 1 - 1)) << "by the step that did not fail";
  until_it_works("longer state", [&] { bench.feed(Sequences{arms[1]}, tokens_of(200, 3)); });
  until_it_works("prefill", [&] { bench.prefill(tokens_of(400, 2)); });
  until_it_works("fork with state", [&] { bench.fork(arms[1], with_state); });
  EXPECT_EQ(bench.length(arms[1]), 901);
}

void expect_to_outlive_failures(std::uint64_t seed) {
  const auto device = std::make_shared<device::NullDevice>();
  EngineConfig config = settings();
  config.pages = 45;
  Engine engine(model_on(config_of("llama"), device), config);
  const int flow = engine.load_flow(flow_of(testing::centroid_flow(), "budget=6 page_size=16"));
  const int with_state = engine.load_flow(flow_of(testing::gathering_flow(), "budget=6 page_size=16"));
  const int with_sets = engine.load_flow(flow_of(testing::centroid_flow(), "budget=6 page_size=16 refresh_every=5"));
  std::mt19937_64 random(seed);
  std::vector<std::int64_t> answered(24);
  for (std::size_t i = 0; i < answered.size(); ++i) {
    Request request;
    request.prompt = tokens_of(1 + static_cast<std::int64_t>(random() % 300), random() % 4);
    request.max_new_tokens = 100;
    const int flows[] = {flow, with_state, with_sets, kFullAttention};
    request.flow = flows[i % 4];
    engine.submit(std::move(request));
  }
  std::int64_t failures = 0;
  for (int step = 0; !engine.idle(); ++step) {
    ASSERT_LT(step, 20000);
    device->fail_at(step % 2 == 0 ? 1 + static_cast<std::int64_t>(random() % 40) : 0);
    try {
      for (const Event& event : engine.step()) ++answered[static_cast<std::size_t>(event.request)];
    } catch (const MachineError& error) {
      EXPECT_EQ(error.where(), "device null") << error.what();
      ++failures;
    }
    ASSERT_NO_THROW(engine.check_integrity()) << "step " << step << ", seed " << seed;
  }
  EXPECT_GT(failures, 10) << seed;
  EXPECT_GT(engine.statistics().preemptions, 0);
  EXPECT_EQ(answered, std::vector<std::int64_t>(24, 100));
}

TEST(EngineOnADevice, RequestsOutliveFailures) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) expect_to_outlive_failures(seed);
}

TEST(EngineOnADevice, AStartThatFailedIsTriedAgain) {
  std::int64_t bytes[2];  // with failures, and without
  for (const bool calm : {false, true}) {
    const auto device = std::make_shared<device::NullDevice>();
    EngineConfig config = settings();
    config.pages = 0, config.memory_bytes = 20 << 20;
    Workbench bench(model_on(config_of("llama"), device), config);
    bench.load_flow(flow_of(testing::quest_flow(), "budget=8 page_size=32"));
    int failures = 0;
    for (std::int64_t work = 1; !calm; ++work) {
      device->fail_at(work);
      try {
        bench.free_pages();
        break;
      } catch (const MachineError&) {
        ++failures;
        EXPECT_EQ(bench.config().pages, 0) << "nothing was started";
      }
    }
    device->fail_at(0);
    EXPECT_GE(failures, calm ? 0 : 3);
    EXPECT_GT(bench.free_pages(), 100);
    bytes[calm] = device->allocated_bytes();
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

TEST(EngineOnADevice, AnEngineThatFindsNoMemoryTakesNoneFromTheOthers) {
  const auto device = std::make_shared<device::NullDevice>();
  const auto model = model_on(config_of("llama"), device);
  Workbench bench(model, settings());
  const Sequences arm = {bench.prefill(tokens_of(100, 1))};
  const std::int64_t before = device->allocated_bytes();
  EngineConfig larger = settings();
  larger.chunk_tokens = 4096;
  int failures = 0;
  for (std::int64_t work = 1;; ++work) {
    device->fail_at(work);
    try {
      Workbench other(model, larger);
      device->fail_at(0);
      break;
    } catch (const MachineError&) {
      ++failures;
    }
    EXPECT_GE(device->allocated_bytes(), before) << "what others walk in is gone, work " << work;
    bench.decode(arm, Tokens{1});
  }
  EXPECT_GT(failures, 5);
}

TEST(EngineOnADevice, AChunkOfManyTokensIsStoredInParts) {
  const auto device = std::make_shared<device::NullDevice>();
  models::ModelConfig model = config_of("llama");
  model.context = 80000;
  EngineConfig config = settings();
  config.pages = 5000, config.chunk_tokens = 70000, config.max_context = 80000;
  Workbench bench(model_on(model, device), config);
  bench.prefill(tokens_of(70000, 1));
  EXPECT_EQ(launched(*device, "kernel prepare "), 2 * 3) << "of two layers";
  EXPECT_EQ(launched(*device, "kernel prefill "), 2);
}

// A captured step has more places than sequences. What stands in one of them has a token, which is a page where pages
// have one: its summary may lie in nobody's.
TEST(EngineOnADevice, PlacesThatNobodyFillsHaveASummary) {
  const auto device = std::make_shared<device::NullDevice>();
  const attention::Geometry geometry{.layers = 2, .kv_heads = 2, .group = 3, .head_dim = 64, .page_size = 1};
  CudaFlow flow(device, flow_of(testing::centroid_flow(), "budget=8 page_size=1"), geometry, 4, 100);
  flow.allocate(10);
  const vortex_field first = flow.fields(0)[0], second = flow.fields(1)[0];
  const std::int64_t bytes = 2 * first.page_stride;  // bf16, of a page
  EXPECT_EQ(static_cast<char*>(second.base) - static_cast<char*>(first.base), 11 * bytes);
  device->check_range(static_cast<char*>(second.base) + 10 * bytes, bytes, "the last page");
}

}  // namespace
}  // namespace vortex::engine
