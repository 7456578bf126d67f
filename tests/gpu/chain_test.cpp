// The parts of the decode chain by themselves, at sizes that the tiny model does not reach: selection among thousands
// of candidates, attention over thousands of tokens.
#include "attention/cuda/chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "base/float16.h"
#include "gpu/open.h"
#include "ir/interpret.h"
#include "models/fp8.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;

struct Scores {
  const char* name;
  float (*draw)(std::mt19937&);
};

float normal(std::mt19937& random) { return std::normal_distribution<float>()(random); }

const Scores kScores[] = {
    {"normal", normal},
    {"many ties", [](std::mt19937& random) { return static_cast<float>(random() % 5) - 2.0f; }},
    {"all equal", [](std::mt19937&) { return 0.25f; }},
    {"both zeros", [](std::mt19937& random) { return random() % 2 == 0 ? 0.0f : -0.0f; }},
    {"close together", [](std::mt19937& random) { return 1.0f + static_cast<float>(random() % 64) * 0x1p-23f; }},
    {"infinities and NaN",
     [](std::mt19937& random) {
       const float odd[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()};
       return random() % 3 == 0 ? odd[random() % 4] : normal(random);
     }},
};

TEST(Select, ListsAreThoseOfTheInterpreter) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const auto stream = device->make_stream();
  const attention::CudaChain chain(*device);
  constexpr int kHeads = 2;
  const std::vector<int> tokens = {1, 16, 47, 48, 49, 64, 1000, 4111, 4112, 4113, 4128, 4129, 8192, 65536, 70001};
  const int sequences = static_cast<int>(tokens.size()), stride = (70001 + 15) / 16, capacity = stride;
  const Array<int> device_tokens = device::upload(device, *stream, tokens);
  constexpr int kPhysical = 2;  // pages of a listed one
  std::vector<int> tables(static_cast<std::size_t>(sequences * stride * kPhysical));
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937(11));
  const Array<int> device_tables = device::upload(device, *stream, tables);
  const Array<cuda::SequencePlan> plans(device, sequences);
  std::int64_t lists = 0;
  const std::vector<ir::FlowConfig> configs = {{.budget = 8},
                                               {.budget = 3},
                                               {.budget = 300, .sinks = 0, .recent = 1},
                                               {.budget_ratio = 0.3, .sinks = 4, .recent = 5},
                                               {.budget = 100000},
                                               {.budget = 257, .sinks = 2}};
  for (const ir::FlowConfig& config : configs) {
    for (const Scores& kind : kScores) {
      std::mt19937 random(3);
      std::vector<float> scores(static_cast<std::size_t>(sequences * kHeads * capacity));
      for (float& score : scores) score = kind.draw(random);
      const Array<float> device_scores = device::upload(device, *stream, scores);
      Array<int> pages(device, static_cast<std::int64_t>(sequences) * kHeads * stride),
          counts(device, sequences * kHeads);
      Array<int> physical(device, static_cast<std::int64_t>(sequences) * kHeads * stride * kPhysical),
          listed(device, sequences * kHeads);
      for (Array<int>* array : {&pages, &counts, &physical, &listed}) array->fill(*stream, 0xff);
      const vortex_batch batch{sequences, device_tables.data(), stride * kPhysical, device_tokens.data(), nullptr,
                               nullptr};
      chain.plan(*stream, batch, &config, 0, nullptr, plans.data());
      chain.select(*stream, {kHeads, 1, 64, 16 / kPhysical, 1.0f, 0, 0}, batch,
                   {plans.data(), device_scores.data(), nullptr, 0, capacity},
                   {{16, pages.data(), stride, counts.data()}, physical.data(), stride * kPhysical, listed.data()});
      const std::vector<int> came = pages.download(*stream), count = counts.download(*stream),
                             came_physical = physical.download(*stream), came_listed = listed.download(*stream);
      for (int row = 0; row < sequences * kHeads; ++row) {
        const std::int64_t held = (tokens[static_cast<std::size_t>(row / kHeads)] + 15) / 16;
        const std::vector<std::int64_t> candidates = ir::candidates_of(config, held);
        const float* of_row = scores.data() + static_cast<std::ptrdiff_t>(row) * capacity;
        const std::vector<std::int64_t> expected =
            ir::interpret_selection(config, held, candidates, std::vector<double>(of_row, of_row + candidates.size()));
        const auto begin = came.begin() + static_cast<std::ptrdiff_t>(row) * stride;
        ASSERT_EQ(static_cast<std::size_t>(count[static_cast<std::size_t>(row)]), expected.size())
            << config.print() << ", " << kind.name << ", " << held << " pages";
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), begin))
            << config.print() << ", " << kind.name << ", " << held << " pages";
        if (static_cast<std::int64_t>(expected.size()) < stride) {
          ASSERT_EQ(*(begin + static_cast<std::ptrdiff_t>(expected.size())), -1) << "written past its end";
        }
        for (std::size_t i = 0; i < expected.size() * kPhysical; ++i) {
          const auto row_start = static_cast<std::size_t>(row) * static_cast<std::size_t>(stride) * kPhysical;
          const auto table_start =
              static_cast<std::size_t>(row / kHeads) * static_cast<std::size_t>(stride) * kPhysical;
          ASSERT_EQ(came_physical[row_start + i],
                    tables[table_start + static_cast<std::size_t>(expected[i / kPhysical]) * kPhysical + i % kPhysical])
              << config.print() << ", " << kind.name << ", entry " << i;
        }
        ASSERT_EQ(came_listed[static_cast<std::size_t>(row)],
                  (static_cast<int>(expected.size()) - static_cast<int>(held)) * 16 +
                      tokens[static_cast<std::size_t>(row / kHeads)]);
        ++lists;
      }
    }
  }
  std::printf("MEASURED select: %lld lists, up to %d pages, equal the interpreter's\n", static_cast<long long>(lists),
              stride);
}

// Sequences over one pool, and lists of them.
struct AttendCase {
  int group, head_dim, page_size;
  bool tuned;
  double bound;  // of the normalised error: more than 8 heads a group enter as plain bf16
  vortex_dtype stored = VORTEX_BFLOAT16;
};

class Attend : public ::testing::TestWithParam<AttendCase> {};

TEST_P(Attend, AgreesWithDoublePrecisionWhateverTheBatch) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const auto stream = device->make_stream();
  constexpr int kHeads = 2;
  const auto [group, dim, page_size, tuned, bound, stored] = GetParam();
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  const vortex_geometry geometry{kHeads, group, dim, page_size, scale, 0, 0};
  const attention::CudaChain chain =
      tuned ? attention::CudaChain(*device, geometry, stored) : attention::CudaChain(*device);
  const std::vector<int> tokens = {3001, 1, 129, 509, 2048};
  const int sequences = static_cast<int>(tokens.size()), longest = 3001;
  const int stride = (longest + page_size - 1) / page_size;
  std::mt19937 random(9);
  std::vector<int> pages(static_cast<std::size_t>(sequences * stride));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  const std::int64_t plane = static_cast<std::int64_t>(page_size) * dim;
  std::vector<BFloat16> kv(pages.size() * static_cast<std::size_t>(kHeads * 2 * plane));
  for (BFloat16& value : kv) value = to_bfloat16(normal(random));
  // The same in bytes, with a scale for each token's K and V, which is no number where there is no token.
  std::vector<unsigned char> bytes(stored == VORTEX_BFLOAT16 ? 0 : kv.size());
  std::vector<float> scales(pages.size() * static_cast<std::size_t>(kHeads * 2 * page_size), std::nanf(""));
  for (unsigned char& byte : bytes) {
    do byte = static_cast<unsigned char>(random() % 256);
    while (stored == VORTEX_INT8 ? byte == 0x80 : byte % 0x80 == 0x7f);
  }
  for (int s = 0; s < sequences; ++s)
    for (int token = 0; token < tokens[static_cast<std::size_t>(s)]; ++token)
      for (int which = 0; which < kHeads * 2; ++which) {
        const int page = pages[static_cast<std::size_t>(s * stride + token / page_size)];
        scales[static_cast<std::size_t>((page * kHeads * 2 + which) * page_size + token % page_size)] =
            (0.5f + static_cast<float>(random() % 1000) / 500.0f) / (stored == VORTEX_INT8 ? 127.0f : 448.0f);
      }
  std::vector<float> q(static_cast<std::size_t>(sequences * kHeads * group * dim));
  for (float& value : q) value = normal(random) * 2.0f;
  // Logical pages of each row, and what the kernel takes: physical ones and their tokens.
  std::vector<int> lists(static_cast<std::size_t>(sequences * kHeads * stride), -1), physical = lists, counts, listed;
  for (int row = 0; row < sequences * kHeads; ++row) {
    const int held = (tokens[static_cast<std::size_t>(row / kHeads)] + page_size - 1) / page_size;
    int count = 0;
    for (int page = 0; page < held; ++page) {
      if (page + 1 != held && row % 2 != 0 && random() % 3 != 0) continue;
      const auto to = static_cast<std::size_t>(row * stride + count++);
      lists[to] = page;
      physical[to] = pages[static_cast<std::size_t>(row / kHeads * stride + page)];
    }
    counts.push_back(count);
    listed.push_back((count - held) * page_size + tokens[static_cast<std::size_t>(row / kHeads)]);
  }

  // After them, for a batch of many rows of few splits: sequences 1 to 3 again and again.
  constexpr int kRepeated = 150;
  for (int i = 0; i < kRepeated; ++i) {
    const auto repeat = [&](auto& values, std::size_t of_sequence) {
      const std::size_t from = static_cast<std::size_t>(1 + i % 3) * of_sequence;
      for (std::size_t k = 0; k < of_sequence; ++k) values.push_back(values[from + k]);
    };
    repeat(q, static_cast<std::size_t>(kHeads * group * dim));
    repeat(physical, static_cast<std::size_t>(kHeads * stride));
    repeat(listed, static_cast<std::size_t>(kHeads));
  }

  const Array<BFloat16> device_kv = device::upload(device, *stream, kv);
  if (bytes.empty()) bytes.push_back(0);
  const Array<unsigned char> device_bytes = device::upload(device, *stream, bytes);
  const Array<float> device_scales = device::upload(device, *stream, scales);
  const auto plane_at = [&](std::int64_t skip) -> vortex_plane {
    return {stored == VORTEX_BFLOAT16 ? static_cast<void*>(device_kv.data() + skip)
                                      : static_cast<void*>(device_bytes.data() + skip),
            kHeads * 2 * plane, 2 * plane, dim};
  };
  const Array<float> device_q = device::upload(device, *stream, q);
  const Array<int> device_lists = device::upload(device, *stream, physical);
  const Array<int> device_listed = device::upload(device, *stream, listed);
  const std::int64_t q_row = static_cast<std::int64_t>(kHeads) * group * dim;
  // Attends sequences [first, first + n) as a batch of their own.
  const auto attend = [&](int first, int n, int capacity) {
    const attention::CudaLayer layer{.geometry = geometry,
                                     .kv = {stored,
                                            plane_at(0),
                                            plane_at(plane),
                                            {device_scales.data(), kHeads * 2 * page_size, 2 * page_size},
                                            {device_scales.data() + page_size, kHeads * 2 * page_size, 2 * page_size}},
                                     .batch = {n, nullptr, 0, nullptr, nullptr, nullptr},
                                     .q = device_q.data() + first * q_row,
                                     .q_stride = q_row};
    Array<float> partial(device, attention::CudaChain::partial_floats(layer.geometry, n, capacity)),
        out(device, n * q_row);
    partial.fill(*stream, 0xff);
    out.fill(*stream, 0xff);
    chain.attend(*stream, layer,
                 {.pages = device_lists.data() + static_cast<std::int64_t>(first) * kHeads * stride,
                  .stride = stride,
                  .tokens = device_listed.data() + first * kHeads,
                  .of_rows = true},
                 capacity, partial.data(), {.out = out.data()});
    return out.download(*stream);
  };
  const std::vector<float> came = attend(0, sequences, longest);

  // Beside it, what a plain bf16 implementation makes of the same: q and the weights rounded to bf16, sums exact.
  double error = 0, size = 0, plain_error = 0;
  const auto rounded = [](double x) { return static_cast<double>(to_float(to_bfloat16(static_cast<float>(x)))); };
  for (int row = 0; row < sequences * kHeads; ++row) {
    const int s = row / kHeads, head = row % kHeads;
    std::vector<int> attended;
    for (int i = 0; i < counts[static_cast<std::size_t>(row)]; ++i) {
      const int page = lists[static_cast<std::size_t>(row * stride + i)];
      for (int t = page * page_size; t < std::min((page + 1) * page_size, tokens[static_cast<std::size_t>(s)]); ++t)
        attended.push_back(t);
    }
    const auto at = [&](int token, int which, int channel) {
      const std::int64_t page = pages[static_cast<std::size_t>(s * stride + token / page_size)];
      const std::int64_t of_token = ((page * kHeads + head) * 2 + which) * page_size + token % page_size;
      const std::int64_t offset = of_token * dim + channel;
      if (stored != VORTEX_BFLOAT16) {
        const unsigned char byte = bytes[static_cast<std::size_t>(offset)];
        const float number =
            stored == VORTEX_INT8 ? static_cast<float>(static_cast<signed char>(byte)) : models::fp8_to_float(byte);
        return static_cast<double>(number) * static_cast<double>(scales[static_cast<std::size_t>(of_token)]);
      }
      return static_cast<double>(to_float(kv[static_cast<std::size_t>(offset)]));
    };
    for (int g = 0; g < group; ++g) {
      const std::int64_t base = s * q_row + (static_cast<std::int64_t>(head) * group + g) * dim;
      std::vector<double> weights, plain_weights, expected(static_cast<std::size_t>(dim), 0.0), plain = expected;
      for (const int token : attended) {
        double logit = 0, plain_logit = 0;
        for (int d = 0; d < dim; ++d) {
          const auto of_q = static_cast<double>(q[static_cast<std::size_t>(base + d)]);
          logit += static_cast<double>(scale) * of_q * at(token, 0, d);
          plain_logit += static_cast<double>(scale) * rounded(of_q) * at(token, 0, d);
        }
        weights.push_back(logit), plain_weights.push_back(plain_logit);
      }
      const double top = *std::max_element(weights.begin(), weights.end());
      const double plain_top = *std::max_element(plain_weights.begin(), plain_weights.end());
      double sum = 0, plain_sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - top);
      for (double& weight : plain_weights) plain_sum += weight = std::exp(weight - plain_top);
      for (std::size_t i = 0; i < attended.size(); ++i) {
        for (int d = 0; d < dim; ++d) {
          const double value = at(attended[i], 1, d);
          expected[static_cast<std::size_t>(d)] += weights[i] / sum * value;
          plain[static_cast<std::size_t>(d)] += rounded(plain_weights[i]) / plain_sum * value;
        }
      }
      for (int d = 0; d < dim; ++d) {
        const double of_plain = plain[static_cast<std::size_t>(d)] - expected[static_cast<std::size_t>(d)];
        plain_error += of_plain * of_plain;
        const double difference =
            static_cast<double>(came[static_cast<std::size_t>(base + d)]) - expected[static_cast<std::size_t>(d)];
        error += difference * difference;
        size += expected[static_cast<std::size_t>(d)] * expected[static_cast<std::size_t>(d)];
      }
    }
  }
  std::printf("MEASURED %s attend, group %d, head_dim %d, pages of %d: normalised error %.2g, plain bf16 %.2g\n",
              !tuned                      ? "plain"
              : stored == VORTEX_BFLOAT16 ? "tuned"
              : stored == VORTEX_INT8     ? "int8"
                                          : "fp8",
              group, dim, page_size, std::sqrt(error / size), std::sqrt(plain_error / size));
  EXPECT_LE(std::sqrt(error / size), bound);
  EXPECT_LE(std::sqrt(error), 2 * std::sqrt(plain_error));

  for (int s = 0; s < sequences; ++s) {
    const std::vector<float> alone = attend(s, 1, longest);
    EXPECT_EQ(std::memcmp(alone.data(), came.data() + s * q_row, alone.size() * sizeof(float)), 0) << "sequence " << s;
  }
  // Capacities and batches choose the kernel and how rows are cut among blocks; the bits stay.
  for (const int capacity : {3072, 4096, 8192, 131072}) {
    const std::vector<float> wider = attend(0, sequences, capacity);
    EXPECT_EQ(std::memcmp(wider.data(), came.data(), came.size() * sizeof(float)), 0) << "capacity " << capacity;
  }
  for (const int n : {3, 9, 30, 60}) {
    for (const int capacity : {512, 640}) {
      const std::vector<float> few = attend(sequences, n, capacity);
      for (int i = 0; i < n; ++i) {
        EXPECT_EQ(std::memcmp(few.data() + i * q_row, came.data() + (1 + i % 3) * q_row,
                              static_cast<std::size_t>(q_row) * sizeof(float)),
                  0)
            << "number " << i << " of " << n << ", capacity " << capacity;
      }
    }
  }
  const std::vector<float> repeated = attend(sequences, kRepeated, 1024);
  for (int i = 0; i < kRepeated; ++i) {
    EXPECT_EQ(std::memcmp(repeated.data() + i * q_row, came.data() + (1 + i % 3) * q_row,
                          static_cast<std::size_t>(q_row) * sizeof(float)),
              0)
        << "sequence " << 1 + i % 3 << ", number " << i << " of a large batch";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Attend,
    ::testing::Values(AttendCase{1, 64, 16, false, 3e-6}, AttendCase{3, 64, 48, false, 3e-6},
                      AttendCase{8, 128, 128, false, 3e-6}, AttendCase{5, 80, 32, false, 3e-6},
                      AttendCase{2, 128, 16, true, 2e-5}, AttendCase{2, 256, 16, true, 2e-5},
                      AttendCase{1, 64, 8, true, 2e-5}, AttendCase{3, 64, 64, true, 2e-5},
                      AttendCase{4, 128, 32, true, 2e-5}, AttendCase{6, 128, 16, true, 2e-5},
                      AttendCase{8, 64, 48, true, 2e-5}, AttendCase{16, 128, 16, true, 6e-3},
                      AttendCase{9, 64, 4, true, 6e-3}, AttendCase{2, 128, 16, true, 2e-5, VORTEX_INT8},
                      AttendCase{2, 128, 16, true, 2e-5, VORTEX_FP8}, AttendCase{6, 128, 32, true, 2e-5, VORTEX_FP8},
                      AttendCase{3, 64, 4, true, 2e-5, VORTEX_FP8}, AttendCase{8, 64, 1, true, 2e-5, VORTEX_INT8},
                      AttendCase{16, 128, 16, true, 6e-3, VORTEX_FP8}),
    [](const auto& chosen) {
      const vortex_dtype stored = chosen.param.stored;
      const char* const kind = !chosen.param.tuned         ? "plain"
                               : stored == VORTEX_BFLOAT16 ? "tuned"
                               : stored == VORTEX_INT8     ? "int8"
                                                           : "fp8";
      return std::string(kind) + "_group" + std::to_string(chosen.param.group) + "_dim" +
             std::to_string(chosen.param.head_dim) + "_page" + std::to_string(chosen.param.page_size);
    });

}  // namespace
}  // namespace vortex::gpu_tests
