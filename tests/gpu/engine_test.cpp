// The engine on the GPU beside the engine on the CPU: the same weights, prompts and flows. And the attention of prompt
// chunks against double precision.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>

#include "attention/cuda/prefill.h"
#include "base/float16.h"
#include "engine/workbench.h"
#include "gpu/open.h"
#include "ir/op.h"
#include "models/fp8.h"
#include "support/flows.h"
#include "support/random_llama.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;
using engine::Workbench;
using Tokens = std::vector<std::int32_t>;

constexpr double kLogitError = 2e-2;  // ‖device − cpu‖ / ‖cpu‖: activations enter the device's linears as bf16

struct Chunk {
  int kv_heads, group, head_dim, page_size, context, count;
};

TEST(Prefill, IsTheAttentionOfDoublePrecision) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const auto stream = device->make_stream();
  double worst = 0;
  for (const Chunk& c : {Chunk{2, 3, 64, 16, 0, 1}, Chunk{2, 6, 128, 16, 777, 300}, Chunk{3, 2, 128, 1, 0, 130},
                         Chunk{1, 16, 64, 32, 4000, 65}, Chunk{2, 1, 128, 16, 63, 257}}) {
    const vortex_geometry g{
        c.kv_heads, c.group, c.head_dim, c.page_size, 1.0f / std::sqrt(static_cast<float>(c.head_dim)), 0, 0};
    const int tokens = c.context + c.count, pages = (tokens + c.page_size - 1) / c.page_size, first = 40, rows = 256;
    const int channels = c.kv_heads * c.group * c.head_dim, plane = c.page_size * c.head_dim;
    std::mt19937 random(static_cast<unsigned>(tokens));
    std::normal_distribution<float> normal;
    std::vector<int> table(static_cast<std::size_t>(pages));
    for (int i = 0; i < pages; ++i) table[static_cast<std::size_t>(i)] = (i * 7 + 3) % (7 * pages);
    std::vector<unsigned short> pool(static_cast<std::size_t>(7) * pages * c.kv_heads * 2 * plane, 0x7fc0);  // NaN
    const auto at = [&](int head, int side, int token) {
      const std::size_t page = static_cast<std::size_t>(table[static_cast<std::size_t>(token / c.page_size)]);
      return ((page * c.kv_heads + head) * 2 + side) * plane +
             static_cast<std::size_t>(token % c.page_size) * c.head_dim;
    };
    for (int head = 0; head < c.kv_heads; ++head)
      for (int token = 0; token < tokens; ++token)
        for (int i = 0; i < 2 * c.head_dim; ++i)
          pool[at(head, i / c.head_dim, token) + static_cast<std::size_t>(i % c.head_dim)] =
              to_bfloat16(normal(random)).bits;
    std::vector<float> q(static_cast<std::size_t>(c.count) * channels);
    for (float& x : q) x = 2.0f * normal(random);
    const auto device_pool = device::upload(device, *stream, pool);
    const auto device_table = device::upload(device, *stream, table);
    const auto device_q = device::upload(device, *stream, q);
    const int blocks = (first + c.count + rows - 1) / rows;
    Array<unsigned short> out(device, static_cast<std::int64_t>(blocks) * rows * channels);
    out.fill(*stream, 0xff);
    const attention::CudaPrefill prefill(*device, g);
    const std::int64_t page = static_cast<std::int64_t>(c.kv_heads) * 2 * plane;
    const attention::CudaLayer layer{.geometry = g,
                                     .kv = {VORTEX_BFLOAT16,
                                            {device_pool.data(), page, 2 * plane, c.head_dim},
                                            {device_pool.data() + plane, page, 2 * plane, c.head_dim},
                                            {},
                                            {}},
                                     .batch = {},
                                     .q = device_q.data(),
                                     .q_stride = channels};
    prefill.attend(*stream, layer,
                   {.pages = device_table.data(),
                    .context = c.context,
                    .count = c.count,
                    .operand = out.data(),
                    .operand_rows = rows,
                    .first = first});
    const std::vector<unsigned short> came = out.download(*stream);
    double error = 0, size = 0;
    for (int token = 0; token<c.count; token += c.count> 64 ? 13 : 1)
      for (int head = 0; head < c.kv_heads * c.group; ++head) {
        const float* query = q.data() + static_cast<std::size_t>(token) * channels + head * c.head_dim;
        const int of = head / c.group, seen = c.context + token + 1;
        std::vector<double> weight(static_cast<std::size_t>(seen)), sum(static_cast<std::size_t>(c.head_dim), 0.0);
        double top = -1e300, total = 0;
        for (int t = 0; t < seen; ++t) {
          double logit = 0;
          for (int i = 0; i < c.head_dim; ++i)
            logit += static_cast<double>(query[i]) * g.scale *
                     static_cast<double>(to_float(BFloat16{pool[at(of, 0, t) + static_cast<std::size_t>(i)]}));
          weight[static_cast<std::size_t>(t)] = logit;
          top = std::max(top, logit);
        }
        for (int t = 0; t < seen; ++t) {
          const double w = std::exp(weight[static_cast<std::size_t>(t)] - top);
          total += w;
          for (int i = 0; i < c.head_dim; ++i)
            sum[static_cast<std::size_t>(i)] +=
                w * static_cast<double>(to_float(BFloat16{pool[at(of, 1, t) + static_cast<std::size_t>(i)]}));
        }
        for (int i = 0; i < c.head_dim; ++i) {
          const int channel = head * c.head_dim + i, flat = first + token, row = flat % rows;
          const std::size_t place =
              static_cast<std::size_t>(flat / rows) * rows * channels +
              ((static_cast<std::size_t>(channel / 64) * rows + row) * 8 + ((channel % 64 / 8) ^ (row & 7))) * 8 +
              channel % 8;
          const double expected = sum[static_cast<std::size_t>(i)] / total;
          const double difference = static_cast<double>(to_float(BFloat16{came[place]})) - expected;
          error += difference * difference, size += expected * expected;
        }
      }
    const double relative = std::sqrt(error / size);
    EXPECT_LT(relative, 1e-2) << c.kv_heads << " KV heads, group " << c.group << ", head_dim " << c.head_dim << ", "
                              << c.count << " tokens after " << c.context;
    if (!(relative <= worst)) worst = relative;
  }
  std::printf("MEASURED prefill attention: largest error %.2e of the size\n", worst);
}

models::ModelConfig config_of(const std::string& architecture) {
  models::ModelConfig config = testing::tiny_llama_config();
  config.architecture = architecture;
  config.layers = 3, config.width = 256, config.ffn_width = 512, config.heads = 6, config.kv_heads = 2;
  config.head_dim = architecture == "llama" ? 64 : 128, config.vocabulary = 1000, config.context = 4096;
  config.tied_embeddings = architecture != "qwen2";
  return config;
}

struct Pair {
  std::shared_ptr<models::Model> cpu, gpu;
};

Pair models_of(const std::string& architecture, const std::shared_ptr<device::Device>& device) {
  const models::ModelConfig config = config_of(architecture);
  testing::RandomLlama llama = testing::random_llama(config, 11, kernels::WeightFormat::bf16);
  if (architecture == "qwen2") {
    std::mt19937_64 random(8);
    for (std::int64_t i = 0; i < config.layers; ++i)
      for (const auto& [name, heads] : {std::pair("q", config.heads), {"k", config.kv_heads}, {"v", config.kv_heads}})
        llama.add("model.layers." + std::to_string(i) + ".self_attn." + name + "_proj.bias", 1, heads * config.head_dim,
                  kernels::WeightFormat::f32, random, 0.0f, 0.5f);
  }
  static std::vector<testing::RandomLlama> kept;  // the CPU's model reads its embeddings where they lie
  kept.push_back(std::move(llama));
  ThreadPool pool(0);
  return {models::make_model(config, testing::WeightsInMemory(kept.back().weights), pool, nullptr),
          models::make_model(config, testing::WeightsInMemory(kept.back().weights), pool, device)};
}

engine::EngineConfig settings(std::int64_t chunk = 512, attention::KvType kv = attention::KvType::bfloat16) {
  return {.page_size = 16, .pages = 900, .max_batch = 9, .chunk_tokens = chunk, .max_context = 2048, .kv_type = kv};
}

ir::Program flow_of(const testing::NamedFlow& flow, const std::string& config) {
  ir::Program program = ir::parse(flow.text(config));
  ir::verify(program);
  return program;
}

Tokens tokens_of(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Tokens out(static_cast<std::size_t>(count));
  for (auto& token : out) token = static_cast<std::int32_t>(random() % 1000);
  return out;
}

double relative(std::span<const float> a, std::span<const float> b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += difference * difference, size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(error / size);
}

struct Bases {
  Workbench::Sequence on_cpu, on_gpu;
};

struct Beside {
  bool chooses = true;    // rows choose among pages, so that near ties may part them
  bool counted = true;    // how many is not a question of scores
  bool confined = false;  // summaries are read of the pages of a set; the device counts those of all candidates
  std::int64_t refresh_every = 1;  // what a step chose stays in the steps after it, and so does what near ties parted
  double logit_error = kLogitError;
  double parted = 0.2, parted_early = 0.2;  // of the lists chosen, of those in the first quarter; at most
};

// A byte's step is 1/127 of the largest of its vector, about 2.4 % of a channel's size. Where activations part by 1 %,
// 6 % of the integers part by a step: 0.6 % of the size of K and of V, beside those 1 %. Extremes of pages, which are
// of integers, part as well, so that near ties of random keys part half as often again.
constexpr Beside kInIntegers{.logit_error = 2.5e-2, .parted = 1.0 / 3, .parted_early = 1.0 / 3};

// Decodes through a flow on both sides, the same tokens fed.
void decode_beside(Workbench& cpu, Workbench& gpu, const Bases& base, int flow, const char* name, Beside of = {}) {
  cpu.record_pages(true), gpu.record_pages(true);
  // Two sequences of different lengths in one step.
  const Tokens other = tokens_of(333, 6);
  std::vector<Workbench::Sequence> on_cpu{cpu.fork(base.on_cpu, flow), cpu.fork(cpu.prefill(other), flow)};
  std::vector<Workbench::Sequence> on_gpu{gpu.fork(base.on_gpu, flow), gpu.fork(gpu.prefill(other), flow)};
  std::vector<double> errors, errors_beside;  // of all; of steps of a sequence whose lists are equal
  std::int64_t lists = 0, different = 0, near = 0;
  std::int64_t choices = 0, parted = 0, early_choices = 0, early = 0;  // of steps that choose anew
  cpu.reset_statistics(), gpu.reset_statistics();
  const Tokens fed = tokens_of(2 * 40, 9);
  for (std::size_t step = 0; step < 40; ++step) {
    const Tokens now{fed[2 * step], fed[2 * step + 1]};
    const std::span<const float> a = cpu.decode(on_cpu, now), b = gpu.decode(on_gpu, now);
    for (std::size_t s = 0; s < 2; ++s) {
      errors.push_back(relative(b.subspan(s * 1000, 1000), a.subspan(s * 1000, 1000)));
      const std::int64_t before = different;
      for (int layer = 0; layer < 3; ++layer)
        for (int head = 0; head < 2; ++head) {
          const auto x = cpu.page_list(on_cpu[s], layer, head), y = gpu.page_list(on_gpu[s], layer, head);
          ++lists;
          if (of.counted) {
            ASSERT_EQ(x.size(), y.size()) << name << " flow " << flow;
          }
          std::vector<std::int32_t> common;
          std::ranges::set_intersection(x, y, std::back_inserter(common));
          different += x != y;
          near += x != y && common.size() + 2 >= std::max(x.size(), y.size());
        }
      if (different == before) errors_beside.push_back(errors.back());
      if (static_cast<std::int64_t>(step) % of.refresh_every == 0) choices += 6, parted += different - before;
    }
    if (step < 10) early_choices = choices, early = parted;
  }
  const auto &c = cpu.statistics(), &g = gpu.statistics();
  EXPECT_EQ(g.rows, c.rows);
  EXPECT_EQ(g.sparse_rows, c.sparse_rows);
  EXPECT_EQ(g.covered_rows, c.covered_rows);
  EXPECT_EQ(g.candidate_pages, c.candidate_pages);
  EXPECT_EQ(g.reused_rows, c.reused_rows);
  if (of.counted) {
    EXPECT_EQ(g.attended_pages, c.attended_pages);
    EXPECT_EQ(g.attended_tokens, c.attended_tokens);
    EXPECT_EQ(g.kv_bytes, c.kv_bytes);
    if (of.confined)
      EXPECT_GE(g.summary_bytes, c.summary_bytes);
    else
      EXPECT_EQ(g.summary_bytes, c.summary_bytes);
  } else {
    EXPECT_NEAR(static_cast<double>(g.attended_pages), static_cast<double>(c.attended_pages),
                0.02 * static_cast<double>(c.attended_pages));
  }
  EXPECT_EQ(g.rebuilt_summaries, c.rebuilt_summaries);
  EXPECT_EQ(g.summarized_pages, c.summarized_pages);
  // Another page is attended where two pages score alike; of a random model the logits move with it. So the middle
  // of the steps whose lists are equal is held to the bound, and every step where nothing is chosen.
  const auto middle = [](std::vector<double> all) {
    std::ranges::sort(all);
    return all.empty() ? 0.0 : all[all.size() / 2];
  };
  const double worst = *std::ranges::max_element(errors);
  std::printf(
      "MEASURED %s flow %d: logits middle %.1e, worst %.1e while decoding, middle of the %zu steps with equal lists "
      "%.1e; %lld of %lld lists differ, %lld by at most two pages; %lld of %lld chosen ones, %lld of the first %lld\n",
      name, flow, middle(errors), worst, errors_beside.size(), middle(errors_beside), static_cast<long long>(different),
      static_cast<long long>(lists), static_cast<long long>(near), static_cast<long long>(parted),
      static_cast<long long>(choices), static_cast<long long>(early), static_cast<long long>(early_choices));
  EXPECT_LT(of.chooses ? middle(errors_beside) : worst, of.logit_error) << name << " flow " << flow;
  EXPECT_GE(errors_beside.size(), errors.size() / 8) << name << " flow " << flow;
  // Of few choices chance parts more: two deviations beside the share.
  const auto most = [&](double share, std::int64_t count) {
    const double mean = share * static_cast<double>(count);
    return of.refresh_every == 1 ? mean : mean + 2 * std::sqrt(mean);
  };
  EXPECT_LE(static_cast<double>(parted), most(of.parted, choices)) << name << " flow " << flow;
  EXPECT_LE(static_cast<double>(early), most(of.parted_early, early_choices)) << name << " flow " << flow;
  // Steps that run ahead of the host are the same steps.
  gpu.record_pages(false);
  const std::vector<Workbench::Sequence> ahead{gpu.fork(on_gpu[0], flow), gpu.fork(on_gpu[1], flow)};
  const std::vector<Workbench::Sequence> apart{gpu.fork(on_gpu[0], flow), gpu.fork(on_gpu[1], flow)};
  gpu.reset_statistics();
  const Tokens together = gpu.greedy(ahead, Tokens{3, 4}, 70);
  const engine::StepStatistics of_ahead = gpu.statistics();
  gpu.reset_statistics();
  Tokens next{3, 4}, one_by_one;
  for (int step = 0; step < 70; ++step) {
    next = gpu.greedy(apart, next, 1);
    one_by_one.insert(one_by_one.end(), next.begin(), next.end());
  }
  EXPECT_EQ(together, one_by_one) << name << " flow " << flow;
  EXPECT_EQ(of_ahead.attended_tokens, gpu.statistics().attended_tokens);
  EXPECT_EQ(of_ahead.candidate_pages, gpu.statistics().candidate_pages);
  EXPECT_EQ(of_ahead.summarized_pages, gpu.statistics().summarized_pages);
  // And so are those that are fed, over more steps than one run ahead has.
  Tokens given, fed_one_by_one;
  for (int i = 0; i < 2 * 90; ++i) given.push_back(static_cast<std::int32_t>((i * 37 + i / 5) % 150));
  const Tokens fed_together = gpu.feed(ahead, given);
  for (std::size_t step = 0; step < 90; ++step) {
    const Tokens chosen = gpu.feed(apart, std::span(given).subspan(2 * step, 2));
    fed_one_by_one.insert(fed_one_by_one.end(), chosen.begin(), chosen.end());
  }
  EXPECT_EQ(fed_together, fed_one_by_one) << name << " flow " << flow;
  for (const auto& both : {ahead, apart})
    for (const auto sequence : both) gpu.release(sequence);
  gpu.record_pages(true);
  for (const auto sequence : on_cpu) cpu.release(sequence);
  for (const auto sequence : on_gpu) gpu.release(sequence);
}

TEST(EngineOnGpu, LogitsAndListsAreThoseOfTheCpu) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    const Pair models = models_of(architecture, device);
    Workbench cpu(models.cpu, settings()), gpu(models.gpu, settings(300));
    const Tokens prompt = tokens_of(900, 5);
    std::vector<float> of_cpu(1000), of_gpu(1000);
    const auto cpu_base = cpu.prefill(prompt, of_cpu.data()), gpu_base = gpu.prefill(prompt, of_gpu.data());
    const double prefilled = relative(of_gpu, of_cpu);
    EXPECT_LT(prefilled, kLogitError) << architecture << ": after the prompt";

    std::vector<int> flows{engine::kFullAttention};
    for (const auto& [flow, config] :
         {std::pair(testing::quest_flow(), "budget=16 page_size=16"),
          std::pair(testing::centroid_flow(), "budget=10 page_size=32 full_attention_layers=1"),
          std::pair(testing::everything_flow(), "budget=12 page_size=16"),
          std::pair(testing::centroid_flow(), "budget=1000 page_size=16")}) {
      flows.push_back(cpu.load_flow(flow_of(flow, config)));
      ASSERT_EQ(gpu.load_flow(flow_of(flow, config)), flows.back());
    }
    for (const int flow : flows)
      decode_beside(cpu, gpu, {cpu_base, gpu_base}, flow, architecture,
                    {.chooses = flow != engine::kFullAttention && flow != flows.back()});
    std::printf("MEASURED %s: logits %.1e after the prompt\n", architecture, prefilled);
    cpu.check_integrity(), gpu.check_integrity();
  }
}

TEST(EngineOnGpu, WhatIsStoredAsIntegersIsThatOfTheCpu) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  for (const char* architecture : {"llama", "qwen3"}) {
    const Pair models = models_of(architecture, device);
    Workbench cpu(models.cpu, settings(512, attention::KvType::int8)),
        gpu(models.gpu, settings(300, attention::KvType::int8));
    const Tokens prompt = tokens_of(900, 5);
    std::vector<float> of_cpu(1000), of_gpu(1000);
    const Bases base{cpu.prefill(prompt, of_cpu.data()), gpu.prefill(prompt, of_gpu.data())};
    EXPECT_LT(relative(of_gpu, of_cpu), kLogitError) << architecture << ": after the prompt";
    // Layer 0, whose K and V are made of the same embeddings: integers, then scales, of each page.
    const std::vector<std::byte> x = cpu.save(base.on_cpu), y = gpu.save(base.on_gpu);
    ASSERT_EQ(x.size(), y.size());
    const std::size_t dim = static_cast<std::size_t>(models.cpu->config().head_dim), vectors = 2 * 2 * 16 * dim;
    const std::size_t page_bytes = vectors + 2 * 2 * 16 * 4, pages = 900 / 16;
    std::int64_t apart = 0, far = 0;
    double scale_error = 0;
    for (std::size_t page = 0; page < pages; ++page) {
      for (std::size_t i = 0; i < vectors; ++i) {
        const int difference = static_cast<int>(static_cast<signed char>(x[page * page_bytes + i])) -
                               static_cast<int>(static_cast<signed char>(y[page * page_bytes + i]));
        apart += difference != 0, far += std::abs(difference) > 2;
      }
      for (std::size_t i = 0; i < 2 * 2 * 16; ++i) {
        float a = 0, b = 0;
        std::memcpy(&a, x.data() + page * page_bytes + vectors + 4 * i, 4);
        std::memcpy(&b, y.data() + page * page_bytes + vectors + 4 * i, 4);
        scale_error = std::max(scale_error, static_cast<double>(std::abs(a - b) / a));
      }
    }
    const auto all = static_cast<std::int64_t>(pages * vectors);
    std::printf("MEASURED %s in int8: %lld of %lld integers differ, %lld by more than two; scales by %.1e at most\n",
                architecture, static_cast<long long>(apart), static_cast<long long>(all), static_cast<long long>(far),
                scale_error);
    EXPECT_LT(apart, all / 4);
    EXPECT_LT(far, all / 1000 + 1);
    EXPECT_LT(scale_error, 0.02);
    std::vector<int> flows{engine::kFullAttention};
    for (const auto& [flow, config] : {std::pair(testing::quest_flow(), "budget=16 page_size=16"),
                                       std::pair(testing::centroid_flow(), "budget=10 page_size=32")}) {
      flows.push_back(cpu.load_flow(flow_of(flow, config)));
      ASSERT_EQ(gpu.load_flow(flow_of(flow, config)), flows.back());
    }
    for (const int flow : flows) {
      Beside bounds = kInIntegers;
      bounds.chooses = flow != engine::kFullAttention;
      decode_beside(cpu, gpu, base, flow, concat(architecture, " in int8").c_str(), bounds);
    }
    cpu.check_integrity(), gpu.check_integrity();
  }
}

TEST(EngineOnGpu, WhatIsStoredInFp8IsTheNearestThere) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("qwen3", device);
  Workbench exact(models.gpu, settings(300)), bench(models.gpu, settings(300, attention::KvType::fp8));
  const Tokens prompt = tokens_of(900, 5);
  std::vector<float> of_exact(1000), logits(1000);
  const auto in_bf16 = exact.prefill(prompt, of_exact.data()), in_fp8 = bench.prefill(prompt, logits.data());
  const std::vector<std::byte> x = exact.save(in_bf16), y = bench.save(in_fp8);
  const std::size_t dim = 128, tokens = 2 * 2 * 16, vectors = tokens * dim, page_bytes = vectors + tokens * 4;
  double error = 0, size = 0, worst = 0;
  for (std::size_t page = 0; page < 900 / 16; ++page)
    for (std::size_t token = 0; token < tokens; ++token) {
      float scale = 0;
      std::memcpy(&scale, y.data() + page * page_bytes + vectors + 4 * token, 4);
      for (std::size_t i = 0; i < dim; ++i) {
        BFloat16 of_bf16;
        std::memcpy(&of_bf16, x.data() + 2 * (page * vectors + token * dim + i), 2);
        const auto a = static_cast<double>(to_float(of_bf16));
        const double b = static_cast<double>(scale) *
                         static_cast<double>(
                             models::fp8_to_float(static_cast<std::uint8_t>(y[page * page_bytes + token * dim + i])));
        error += (a - b) * (a - b), size += a * a;
        // Half a step of three bits, or of the smallest numbers; and what bf16 rounded.
        worst =
            std::max(worst, std::abs(a - b) / (std::abs(a) * (0x1p-4 + 0x1p-8) + static_cast<double>(scale) * 0x1p-10));
      }
    }
  const double rounding = std::sqrt(error / size), logit_error = relative(logits, of_exact);
  std::printf("MEASURED fp8: K and V %.4f of their size away, worst %.2f of a step, logits %.4f after the prompt\n",
              rounding, worst, logit_error);
  EXPECT_GT(rounding, 0.01);
  EXPECT_LT(rounding, 0.04);
  EXPECT_LE(worst, 1.0);
  EXPECT_LT(logit_error, 0.2);
  // Steps that run ahead of the host are the same steps, and summaries are those of what is stored.
  const int flow = bench.load_flow(flow_of(testing::centroid_flow(), "budget=12 page_size=16"));
  for (const int of : {engine::kFullAttention, flow}) {
    const std::vector<Workbench::Sequence> ahead{bench.fork(in_fp8, of)}, apart{bench.fork(in_fp8, of)};
    const Tokens together = bench.greedy(ahead, Tokens{3}, 40);
    Tokens next{3}, one_by_one;
    for (int step = 0; step < 40; ++step) {
      next = bench.greedy(apart, next, 1);
      one_by_one.insert(one_by_one.end(), next.begin(), next.end());
    }
    EXPECT_EQ(together, one_by_one) << "flow " << of;
    const std::vector<float> of_fp8 = [&] {
      const auto span = bench.decode(ahead, Tokens{5});
      return std::vector<float>(span.begin(), span.end());
    }();
    EXPECT_TRUE(std::ranges::all_of(of_fp8, [](float z) { return std::isfinite(z); })) << "flow " << of;
  }
  const auto back = bench.restore(y, 900);
  EXPECT_EQ(bench.save(back), y);
  bench.check_integrity();
}

// Numbers for a flow's parameters, [layers, KV heads, head_dim, 16] each.
ir::Program with_numbers(const ir::Program& program, const attention::Geometry& geometry) {
  std::mt19937 random(21);
  std::normal_distribution<float> normal(0.0f, 0.2f);
  ir::Parameters tensors;
  for (const ir::Node* node : ir::parameters_of(program)) {
    ir::Parameter tensor{{geometry.layers, geometry.kv_heads, geometry.head_dim, 16}, {}};
    for (std::int64_t i = 0; i < geometry.layers * geometry.kv_heads * geometry.head_dim * 16; ++i)
      tensor.data.push_back(normal(random));
    tensors[ir::text_of(node->attributes, "name")] = std::move(tensor);
  }
  return tensors.empty() ? program : ir::attach_weights(program, tensors);
}

TEST(EngineOnGpu, FlowsWithMoreThanSummariesAreThoseOfTheCpu) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("llama", device);
  Workbench cpu(models.cpu, settings()), gpu(models.gpu, settings(300));
  const Tokens prompt = tokens_of(900, 5);
  const Bases base{cpu.prefill(prompt), gpu.prefill(prompt)};
  for (const auto& [flow, config] : {std::pair(testing::gathering_flow(), "budget=12 page_size=16"),
                                     std::pair(testing::gathering_flow(), "budget=40 page_size=16"),
                                     std::pair(testing::learned_flow(), "budget=12 page_size=16"),
                                     std::pair(testing::smoothed_flow(), "budget=12 page_size=16"),
                                     std::pair(testing::grouped_flow(), "budget=12 page_size=16")}) {
    const ir::Program program = with_numbers(flow_of(flow, config), models.cpu->config().attention());
    const int number = cpu.load_flow(program);
    ASSERT_EQ(gpu.load_flow(program), number);
    decode_beside(cpu, gpu, base, number, flow.name.c_str());
  }
  cpu.check_integrity(), gpu.check_integrity();
}

TEST(EngineOnGpu, SetsOfGroupsAndStateTogetherAreThoseOfTheCpu) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("llama", device);
  Workbench cpu(models.cpu, settings()), gpu(models.gpu, settings(300));
  const Tokens prompt = tokens_of(900, 5);
  const Bases base{cpu.prefill(prompt), gpu.prefill(prompt)};
  for (const testing::NamedFlow& flow :
       {testing::hysteresis_flow(), testing::hierarchical_flow(), testing::rest_groups_flow()}) {
    const ir::Program program = flow_of(flow, "budget=12 page_size=16");
    const int number = cpu.load_flow(program);
    ASSERT_EQ(gpu.load_flow(program), number);
    // What parts the state of hysteresis goes on parting what it chooses.
    decode_beside(cpu, gpu, base, number, flow.name.c_str(),
                  {.confined = flow.name == "hierarchical", .parted = flow.name == "hysteresis" ? 0.5 : 0.2});
  }
  cpu.check_integrity(), gpu.check_integrity();
}

struct LayerOf {
  std::int64_t layer;
  testing::NamedFlow flow;
  const char* config;
};
ir::Program layered_program(const char* config, const std::vector<LayerOf>& others) {
  ir::Program program = flow_of(testing::centroid_flow(), config);
  for (const LayerOf& other : others) ir::add_layers(program, {other.layer}, flow_of(other.flow, other.config), {});
  ir::verify(program);
  return program;
}

TEST(EngineOnGpu, FlowsOfLayersAreThoseOfTheCpu) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("llama", device);
  Workbench cpu(models.cpu, settings()), gpu(models.gpu, settings(300));
  const Tokens prompt = tokens_of(900, 5);
  const Bases base{cpu.prefill(prompt), gpu.prefill(prompt)};
  const LayerOf quest{1, testing::quest_flow(), "budget=10 page_size=16 sinks=2"};
  const LayerOf gathering{2, testing::gathering_flow(), "budget=14 page_size=16"};
  const LayerOf first{0, testing::quest_flow(), "budget=10 page_size=16"};
  for (const ir::Program& program :
       {layered_program("budget=12 page_size=16", {quest, gathering}),
        layered_program("budget=12 page_size=16 reuse=1:0", {first}),  // takes the set of a layer with another flow
        layered_program("budget=12 page_size=16 refresh_every=4", {quest})}) {
    const int number = cpu.load_flow(program);
    ASSERT_EQ(gpu.load_flow(program), number);
    decode_beside(cpu, gpu, base, number, concat("layers, ", program.config.print()).c_str(),
                  {.refresh_every = program.config.refresh_every});
  }
  cpu.check_integrity(), gpu.check_integrity();
}

// Feeds tokens to sequences in one step each; the page lists of the first.
std::vector<std::vector<std::int32_t>> lists_while_fed(Workbench& bench, const std::vector<Workbench::Sequence>& which,
                                                       const Tokens& fed, std::vector<float>& last) {
  std::vector<std::vector<std::int32_t>> out;
  for (const std::int32_t token : fed) {
    const std::span<const float> logits = bench.decode(which, Tokens(which.size(), token));
    last.assign(logits.begin(), logits.end());
    for (int layer = 0; layer < 3; ++layer)
      for (int head = 0; head < 2; ++head) out.push_back(bench.page_list(which[0], layer, head));
  }
  return out;
}

TEST(EngineOnGpu, StateIsCopiedByAForkAndStartsAnewInAnotherSequence) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("llama", device);
  Workbench bench(models.gpu, settings(300));
  const int flow = bench.load_flow(flow_of(testing::gathering_flow(), "budget=8 page_size=16"));
  bench.record_pages(true);
  const auto base = bench.prefill(tokens_of(900, 5));
  const Tokens fed = tokens_of(30, 7), more = tokens_of(20, 8);
  std::vector<float> logits, again;
  const auto first = bench.fork(base, flow);
  const auto lists = lists_while_fed(bench, {first}, fed, logits);
  const auto copy = bench.fork(first, flow), bare = bench.fork(first, flow);
  bench.truncate(bare, bench.length(bare));   // nothing is taken from it but its state
  const auto fresh = bench.fork(base, flow);  // the same pages as `first` began with
  EXPECT_EQ(lists_while_fed(bench, {fresh}, fed, again), lists);
  EXPECT_EQ(again, logits);
  const auto apart = lists_while_fed(bench, {first}, more, logits);
  EXPECT_EQ(lists_while_fed(bench, {copy}, more, again), apart);
  EXPECT_EQ(again, logits);
  // Without what had been gathered other pages are chosen: state is part of what is compared.
  EXPECT_NE(lists_while_fed(bench, {bare}, more, again), apart);
  bench.check_integrity();
}

TEST(EngineOnGpu, SetsRestsAndBudgetsAreThoseOfTheCpu) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("qwen3", device);
  Workbench cpu(models.cpu, settings()), gpu(models.gpu, settings(300));
  const Tokens prompt = tokens_of(900, 5);
  const Bases base{cpu.prefill(prompt), gpu.prefill(prompt)};
  struct Case {
    testing::NamedFlow flow;
    const char* config;
    bool counted;
  };
  for (const Case& at :
       {Case{testing::top_p_flow(), "page_size=16", false}, Case{testing::two_streams_flow(), "page_size=16", false},
        Case{testing::rest_flow(), "budget=12 page_size=16", true},
        Case{testing::rest_flow(), "budget=1000 page_size=16", true},
        Case{testing::confined_flow(), "budget=12 page_size=16", false},
        Case{testing::budgeted_flow(), "budget=0 page_size=16", true},
        Case{testing::centroid_flow(), "budget=12 page_size=16 reuse=1:0", true},
        Case{testing::centroid_flow(), "budget=12 page_size=16 reuse=2:0", true},
        Case{testing::centroid_flow(), "budget=12 page_size=16 refresh_every=4", true},
        Case{testing::centroid_flow(), "budget=12 page_size=16 refresh_every=20 reuse=1:0", true},
        Case{testing::top_p_flow(), "page_size=16 refresh_every=4", false}}) {
    const ir::Program program = flow_of(at.flow, at.config);
    const int number = cpu.load_flow(program);
    ASSERT_EQ(gpu.load_flow(program), number);
    decode_beside(cpu, gpu, base, number, (at.flow.name + " " + at.config).c_str(),
                  {.chooses = program.config.budget != 1000,
                   .counted = at.counted,
                   .confined = at.flow.name == "confined",
                   .refresh_every = program.config.refresh_every});
  }
  cpu.check_integrity(), gpu.check_integrity();
}

// Tokens and log-probabilities by request.
using Answers = std::map<std::int64_t, std::pair<Tokens, std::vector<float>>>;

Answers serve(engine::Engine& engine, const std::vector<engine::Request>& requests) {
  Answers out;
  std::size_t submitted = 0;
  while (submitted < requests.size() || !engine.idle()) {
    for (int i = 0; i < 2 && submitted < requests.size(); ++i) engine.submit(requests[submitted++]);
    for (const engine::Event& event : engine.step()) {
      EXPECT_NE(event.finished, engine::FinishReason::failed);
      if (event.token < 0) continue;
      out[event.request].first.push_back(event.token);
      out[event.request].second.push_back(event.logprob);
    }
  }
  engine.check_integrity();
  return out;
}

TEST(EngineOnGpu, AnswersAreThoseOfTheCpuUpToNearTies) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("qwen3", device);
  engine::EngineConfig roomy = settings(), tight = settings();
  tight.pages = 60;  // preemptions
  engine::Engine cpu(models.cpu, roomy), gpu(models.gpu, roomy), small(models.gpu, tight);
  const ir::Program program =
      flow_of(testing::quest_flow(), "budget=1000 page_size=16");  // full attention by its budget
  const int flow = cpu.load_flow(program);
  gpu.load_flow(program), small.load_flow(program);
  std::vector<engine::Request> requests;
  for (std::uint64_t i = 0; i < 24; ++i) {
    engine::Request request;
    request.prompt = tokens_of(40 + static_cast<std::int64_t>(i % 5) * 130, i % 4);  // prefixes are shared
    for (const auto token : tokens_of(static_cast<std::int64_t>(i % 3) * 20, 100 + i)) request.prompt.push_back(token);
    request.max_new_tokens = 120;
    request.flow = i % 2 == 0 ? flow : engine::kFullAttention;
    requests.push_back(std::move(request));
  }
  const Answers of_cpu = serve(cpu, requests), of_gpu = serve(gpu, requests), of_small = serve(small, requests);
  EXPECT_GT(small.statistics().preemptions, 0);
  EXPECT_GT(gpu.statistics().prefix_hit_tokens, 0);
  EXPECT_EQ(gpu.statistics().host_choices, 0);
  const auto compare = [&](const Answers& a, const Answers& b, const char* what) {
    std::int64_t equal = 0, tokens = 0;
    float worst = 0;
    for (const auto& [id, answer] : a) {
      const auto& other = b.at(id);
      ASSERT_EQ(answer.first.size(), other.first.size());
      for (std::size_t i = 0; i < answer.first.size(); ++i) {
        if (answer.first[i] != other.first[i]) break;
        ++tokens;
        worst = std::max(worst, std::abs(answer.second[i] - other.second[i]));
      }
      equal += answer.first == other.first;
    }
    std::printf("MEASURED %s: %lld of %zu answers equal, %lld tokens before they part, log-probabilities within %.3f\n",
                what, static_cast<long long>(equal), a.size(), static_cast<long long>(tokens),
                static_cast<double>(worst));
    EXPECT_GE(equal * 3, static_cast<std::int64_t>(a.size())) << what;  // of a random model every token is nearly a tie
    EXPECT_LT(worst, 0.2f) << what;
  };
  compare(of_cpu, of_gpu, "cpu and gpu");
  compare(of_gpu, of_small, "roomy and tight pool");
}

TEST(EngineOnGpu, SampledAnswersAreThoseOfTheHost) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("qwen3", device);
  engine::EngineConfig config = settings();
  config.deterministic = true;  // the same logits, whoever chooses
  engine::Engine there(models.gpu, config), here(models.gpu, config);
  const ir::Program program = flow_of(testing::centroid_flow(), "budget=8 page_size=16");
  const int flow = there.load_flow(program);
  here.load_flow(program);
  std::vector<engine::Request> requests, by_host;
  for (std::uint64_t i = 0; i < 12; ++i) {
    engine::Request request;
    request.prompt = tokens_of(33 + static_cast<std::int64_t>(i % 5) * 137, i);
    request.max_new_tokens = 60;
    request.flow = i % 2 == 0 ? flow : engine::kFullAttention;
    request.sampling.seed = i;
    request.sampling.temperature = 0.4f + 0.2f * static_cast<float>(i % 4);
    if (i % 3 == 1) request.sampling.top_p = 0.9f;
    if (i % 4 == 2) request.sampling.top_k = 40;
    if (i % 5 == 3) request.sampling.min_p = 0.05f;
    requests.push_back(request);
    request.sampling.top_logprobs = 1;  // which only the host reports
    by_host.push_back(std::move(request));
  }
  const Answers x = serve(there, requests), y = serve(here, by_host);
  EXPECT_EQ(there.statistics().host_choices, 0);
  EXPECT_EQ(here.statistics().device_choices, 0);
  std::size_t equal = 0;
  float worst = 0;
  for (const auto& [id, answer] : x) {
    const auto& other = y.at(id);
    equal += answer.first == other.first;
    for (std::size_t i = 0; answer.first == other.first && i < answer.second.size(); ++i)
      worst = std::max(worst, std::abs(answer.second[i] - other.second[i]));
  }
  std::printf("MEASURED sampled: %zu of %zu answers are the host's, log-probabilities within %.1e\n", equal, x.size(),
              static_cast<double>(worst));
  EXPECT_GE(equal + 1, x.size()) << "a number may fall on a boundary within rounding";
  EXPECT_LT(worst, 1e-3f);
}

// Steps that are launched before the host has read the tokens of the one before: greedy and drawn answers, stop tokens,
// shared prefixes, state, preemption.
TEST(EngineOnGpu, AnswersAreThoseWithoutOverlap) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("qwen3", device);
  engine::EngineConfig config = settings();
  config.deterministic = true;  // a token after the last one is company to the others
  config.pages = 90;
  engine::EngineConfig apart = config;
  apart.overlap = false;
  engine::Engine with(models.gpu, config), without(models.gpu, apart);
  std::vector<int> flows{engine::kFullAttention};
  for (const ir::Program& program : {flow_of(testing::centroid_flow(), "budget=8 page_size=16"),
                                     flow_of(testing::gathering_flow(), "budget=8 page_size=16"),
                                     flow_of(testing::quest_flow(), "budget=8 page_size=16 refresh_every=3")}) {
    flows.push_back(with.load_flow(program));
    without.load_flow(program);
  }
  std::vector<engine::Request> requests;
  for (std::uint64_t i = 0; i < 32; ++i) {
    engine::Request request;
    request.prompt = tokens_of(33 + static_cast<std::int64_t>(i % 5) * 137, i % 4);
    for (const auto token : tokens_of(static_cast<std::int64_t>(i % 3) * 17, 100 + i)) request.prompt.push_back(token);
    request.max_new_tokens = 20 + static_cast<std::int64_t>(i * 37 % 90);
    request.flow = flows[i % 4];
    if (i % 3 == 0) request.sampling.temperature = 0.9f, request.sampling.seed = i;
    for (std::int32_t token = 0; token < 1000; token += 97) request.stop_tokens.push_back(token + static_cast<int>(i));
    requests.push_back(std::move(request));
  }
  const Answers x = serve(with, requests), y = serve(without, requests);
  std::size_t stopped = 0, tokens = 0;
  for (const auto& [id, answer] : x) {
    tokens += answer.first.size();
    stopped += static_cast<std::int64_t>(answer.first.size()) < requests[static_cast<std::size_t>(id)].max_new_tokens;
    EXPECT_EQ(answer, y.at(id)) << "request " << id;
  }
  std::printf("MEASURED overlap: %zu answers of %zu tokens, %zu ended by a stop token, %lld preemptions\n", x.size(),
              tokens, stopped, static_cast<long long>(with.statistics().preemptions));
  EXPECT_GT(stopped, 3u);
  EXPECT_GT(with.statistics().preemptions, 0);
  EXPECT_EQ(with.statistics().free_pages + with.statistics().cached_pages, 90);
}

TEST(EngineOnGpu, ADeterministicAnswerDoesNotDependOnItsCompany) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Pair models = models_of("qwen3", device);
  engine::EngineConfig config = settings();
  config.deterministic = true;
  engine::EngineConfig tight = config;
  tight.pages = 60;
  engine::Engine together(models.gpu, config), crowded(models.gpu, tight);
  const ir::Program program = flow_of(testing::centroid_flow(), "budget=8 page_size=16");
  const int flow = together.load_flow(program);
  crowded.load_flow(program);
  std::vector<engine::Request> requests;
  for (std::uint64_t i = 0; i < 12; ++i) {
    engine::Request request;
    request.prompt = tokens_of(33 + static_cast<std::int64_t>(i % 5) * 137, i % 4);
    for (const auto token : tokens_of(static_cast<std::int64_t>(i % 3) * 17, 100 + i)) request.prompt.push_back(token);
    request.max_new_tokens = 60;
    request.flow = i % 2 == 0 ? flow : engine::kFullAttention;
    requests.push_back(std::move(request));
  }
  const Answers all = serve(together, requests), preempted = serve(crowded, requests);
  EXPECT_EQ(all, preempted);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    engine::Engine alone(models.gpu, config);
    alone.load_flow(program);
    const Answers one = serve(alone, {requests[i]});
    EXPECT_EQ(one.begin()->second, all.at(static_cast<std::int64_t>(i))) << "request " << i;
  }
}

}  // namespace
}  // namespace vortex::gpu_tests
