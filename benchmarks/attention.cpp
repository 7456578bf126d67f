// Times the attention of whole decode steps and of a prefill chunk on the shape of SmolLM2-135M (30 layers, 3 KV heads
// of 3 query heads, head_dim 64, pages of 16 tokens in shuffled order), full and through compiled flows. Rows of every
// measured step are checked against double precision. Method: every arm runs once in each round, rounds repeat, the
// median is shown, and for score and attend the best of each layer, summed, which a loaded machine disturbs least; KV
// is random and far larger than the caches. Beside it stands the read bandwidth of the machine over as many bytes.
//   bench_attention [threads] [batch] [tokens] [rounds] [prefill 0 or 1]
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "attention/cpu/step.h"
#include "base/check.h"
#include "ir/program.h"
#include "kernels/cpu/bandwidth.h"
#include "support/flows.h"

namespace {

using namespace vortex;
using namespace vortex::attention;

constexpr std::int64_t kLayers = 30, kHeads = 3, kGroup = 3, kDim = 64, kPage = 16;
constexpr std::int64_t kWidth = kHeads * kGroup * kDim, kKeyWidth = kHeads * kDim;
const Geometry kGeometry{kLayers, kHeads, kGroup, kDim, kPage, 0.125f};

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Arm {
  std::string name;
  int flow = -1;  // -1: full attention
  std::vector<double> times, attend, score, select, other;
  std::vector<double> best_score, best_attend;  // [layers]
  StepStatistics last;
};

struct Bench {
  ThreadPool pool;
  std::int64_t batch, tokens, pages_each, pages;
  std::vector<BFloat16*> memory;  // [layers] of [physical page, kv_head, {K, V}, token, dim]
  std::vector<KvView> kv;
  std::vector<std::int32_t> tables;  // [batch, pages_each]
  std::vector<LoadedFlow> flows;
  std::vector<std::unique_ptr<SummaryArena>> arenas;
  std::vector<float> q, k, v, out;
  StepWorkspace workspace;

  Bench(int threads, std::int64_t batch_size, std::int64_t length)
      : pool(threads),
        batch(batch_size),
        tokens(length),
        pages_each((length + kPage - 1) / kPage),
        pages(batch * pages_each) {
    std::mt19937 random(1);
    const std::int64_t page_stride = kHeads * 2 * kPage * kDim;
    const std::size_t bytes = static_cast<std::size_t>(pages * page_stride) * sizeof(BFloat16);
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      VORTEX_CHECK(mapped != MAP_FAILED, bytes, " bytes of KV");
      madvise(mapped, bytes, MADV_HUGEPAGE);
      BFloat16* base = static_cast<BFloat16*>(mapped);
      std::uint32_t state = static_cast<std::uint32_t>(layer) + 1;
      for (std::int64_t i = 0; i < pages * page_stride; ++i) {
        state = state * 1664525u + 1013904223u;
        base[i] = to_bfloat16((static_cast<float>(state >> 9) / 4194304.0f - 1.0f) * 1.7f);
      }
      const Plane keys{base, page_stride, 2 * kPage * kDim, kDim};
      memory.push_back(base);
      kv.push_back({keys, {base + kPage * kDim, keys.page_stride, keys.head_stride, keys.token_stride}});
    }
    tables.resize(static_cast<std::size_t>(pages));
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), random);
    std::normal_distribution<float> normal;
    q.resize(static_cast<std::size_t>(std::max<std::int64_t>(batch, 1) * kWidth));
    k.resize(static_cast<std::size_t>(batch * kKeyWidth));
    v.resize(k.size());
    out.resize(q.size());
    for (auto* all : {&q, &k, &v})
      for (float& x : *all) x = normal(random);
  }

  int add_flow(const testing::NamedFlow& named, const std::string& config) {
    const ir::Program program = ir::parse(named.text(config));
    ir::Geometry geometry;
    geometry.page_size = program.config.page_size;
    geometry.head_dim = kDim;
    geometry.group = kGroup;
    auto flow = codegen::CpuFlow::build(compiler::compile(program, geometry));
    arenas.push_back(flow->fields().empty() ? nullptr
                                            : std::make_unique<SummaryArena>(flow->fields(), kLayers, pages, kHeads));
    flows.push_back({flow, program.config, arenas.back().get()});
    return static_cast<int>(flows.size()) - 1;
  }

  // One decode step of the whole batch at `tokens`; the newest token is written anew each time.
  void decode(Arm& arm) {
    std::vector<Slice> slices;
    for (std::int64_t s = 0; s < batch; ++s) {
      Slice slice;
      slice.first_token = static_cast<std::int32_t>(s);
      slice.context = static_cast<std::int32_t>(tokens - 1);
      slice.page_table = tables.data() + s * pages_each;
      slice.page_count = static_cast<std::int32_t>(pages_each);
      slice.flow = arm.flow;
      slice.sparse = arm.flow >= 0;
      slices.push_back(slice);
    }
    CpuStep step(kGeometry, kv, flows, slices, workspace, pool);
    const double start = seconds();
    const StepStatistics& statistics = step.statistics();
    arm.best_score.resize(kLayers, 1e9);
    arm.best_attend.resize(kLayers, 1e9);
    for (std::int32_t layer = 0; layer < kLayers; ++layer) {
      const double score = statistics.score_seconds, attend = statistics.attend_seconds;
      step.run(layer, q.data(), k.data(), v.data(), out.data());
      double &best_score = arm.best_score[static_cast<std::size_t>(layer)],
             &best_attend = arm.best_attend[static_cast<std::size_t>(layer)];
      best_score = std::min(best_score, statistics.score_seconds - score);
      best_attend = std::min(best_attend, statistics.attend_seconds - attend);
    }
    arm.times.push_back(seconds() - start);
    arm.attend.push_back(statistics.attend_seconds);
    arm.score.push_back(statistics.score_seconds);
    arm.select.push_back(statistics.select_seconds);
    arm.other.push_back(statistics.append_seconds + statistics.summarize_seconds);
    arm.last = statistics;
    for (std::int64_t s : {std::int64_t{0}, batch - 1})
      for (std::int64_t h : {0, 2}) check(s, h, step.selected(s, h));
  }

  // The last layer's output of one row against double precision.
  void check(std::int64_t sequence, std::int64_t head, std::span<const std::int32_t> list) {
    const KvView& view = kv.back();
    std::vector<std::int64_t> attended;
    for (std::int64_t t = 0; t < tokens; ++t)
      if (list.empty() || std::binary_search(list.begin(), list.end(), static_cast<std::int32_t>(t / kPage)))
        attended.push_back(t);
    const std::int64_t first = sequence * kWidth + head * kGroup * kDim;
    std::vector<double> logits, sum(kDim, 0.0);
    double largest = -INFINITY, total = 0;
    for (std::int64_t t : attended) {
      const BFloat16* key =
          view.k.at<BFloat16>(tables[static_cast<std::size_t>(sequence * pages_each + t / kPage)], head, t % kPage);
      double logit = 0;
      for (std::int64_t d = 0; d < kDim; ++d)
        logit += static_cast<double>(q[static_cast<std::size_t>(first + d)]) * to_float(key[d]) * 0.125;
      logits.push_back(logit);
      largest = std::max(largest, logit);
    }
    for (std::size_t i = 0; i < attended.size(); ++i) {
      const std::int64_t t = attended[i];
      const BFloat16* value =
          view.v.at<BFloat16>(tables[static_cast<std::size_t>(sequence * pages_each + t / kPage)], head, t % kPage);
      const double p = std::exp(logits[i] - largest);
      for (std::int64_t d = 0; d < kDim; ++d) sum[static_cast<std::size_t>(d)] += p * to_float(value[d]);
      total += p;
    }
    for (std::int64_t d = 0; d < kDim; ++d) {
      const double expected = sum[static_cast<std::size_t>(d)] / total, came = out[static_cast<std::size_t>(first + d)];
      VORTEX_CHECK(std::abs(expected - came) < 2e-6, "sequence ", sequence, ", head ", head, ", channel ", d, ": ",
                   came, " for ", expected);
    }
  }

  // Attention of a whole prompt of `length` tokens in chunks of 512; seconds of one layer.
  double prefill(std::int64_t length) {
    std::vector<float> prompt(static_cast<std::size_t>(512 * kWidth), 0.3f);
    double time = 0;
    for (std::int64_t first = 0; first < length; first += 512) {
      Slice slice;
      slice.context = static_cast<std::int32_t>(first);
      slice.token_count = static_cast<std::int32_t>(std::min<std::int64_t>(512, length - first));
      slice.page_table = tables.data();
      slice.page_count = static_cast<std::int32_t>(pages_each);
      const std::vector<float> keys(static_cast<std::size_t>(slice.token_count * kKeyWidth), 0.1f);
      Geometry one = kGeometry;
      one.layers = 1;
      CpuStep step(one, {kv.data(), 1}, {}, {&slice, 1}, workspace, pool);
      step.run(0, prompt.data(), keys.data(), keys.data(), prompt.data());
      time += step.statistics().prefill_seconds;
    }
    return time;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const std::int64_t batch = argc > 2 ? std::atoll(argv[2]) : 8, tokens = argc > 3 ? std::atoll(argv[3]) : 7500;
  const int rounds = argc > 4 ? std::atoi(argv[4]) : 5;
  const bool prefill = argc <= 5 || std::atoi(argv[5]) != 0;
  Bench bench(threads, batch, tokens);
  const std::string config = "budget=32 page_size=16";
  std::vector<Arm> arms(4);
  arms[0].name = "full attention";
  arms[0].flow = -1;
  const testing::NamedFlow named[] = {testing::centroid_flow(), testing::quest_flow(), testing::mean_deviation_flow()};
  for (std::size_t i = 0; i < 3; ++i) {
    arms[i + 1].name = named[i].name + ", 32 pages";
    arms[i + 1].flow = bench.add_flow(named[i], config);
  }
  const std::int64_t kv_bytes = bench.pages * kLayers * kHeads * kPage * kDim * 4;
  std::vector<double> bandwidth;
  for (Arm& arm : arms) {  // summaries are made here
    bench.decode(arm);
    Arm fresh;
    fresh.name = arm.name;
    fresh.flow = arm.flow;
    arm = fresh;
  }
  for (int round = 0; round < rounds; ++round) {
    const auto read =
        kernels::measured_read_bandwidth(bench.pool, std::min<std::int64_t>(kv_bytes, std::int64_t{1} << 30), 2);
    bandwidth.push_back(read.bytes_per_second);
    for (Arm& arm : arms) bench.decode(arm);
  }
  const double speed = median(bandwidth);
  std::printf("%d threads, batch %lld, %lld tokens, KV %.2f GB; read bandwidth %.1f GB/s\n", bench.pool.threads(),
              static_cast<long long>(batch), static_cast<long long>(tokens), static_cast<double>(kv_bytes) * 1e-9,
              speed * 1e-9);
  std::printf("%-26s %9s %9s %7s %9s %7s %9s %9s %8s %11s %11s\n", "arm", "step ms", "attend", "GB/s", "of read",
              "score", "x floor", "select", "other", "best score", "best attend");
  for (Arm& arm : arms) {
    const double attend = median(arm.attend), score = median(arm.score);
    const double rate = static_cast<double>(arm.last.kv_bytes) / attend;
    const double floor = static_cast<double>(arm.last.summary_bytes) / speed;
    std::printf("%-26s %9.2f %9.2f %7.1f %8.0f%% %7.2f %9.2f %9.3f %8.3f %11.2f %11.2f\n", arm.name.c_str(),
                median(arm.times) * 1e3, attend * 1e3, rate * 1e-9, 100 * rate / speed, score * 1e3,
                floor > 0 ? score / floor : 0.0, median(arm.select) * 1e3, median(arm.other) * 1e3,
                std::accumulate(arm.best_score.begin(), arm.best_score.end(), 0.0) * 1e3,
                std::accumulate(arm.best_attend.begin(), arm.best_attend.end(), 0.0) * 1e3);
  }
  for (std::int64_t length : {2048, 4096}) {
    if (length > tokens || !prefill) continue;
    std::vector<double> times;
    for (int round = 0; round < rounds; ++round) times.push_back(bench.prefill(length));
    const double flops =
        4.0 * kHeads * kGroup * kDim * static_cast<double>(length) * static_cast<double>(length + 1) / 2;
    std::printf("prefill of %lld tokens: %.1f ms a layer, %.1f GFLOP/s a thread\n", static_cast<long long>(length),
                median(times) * 1e3, flops / median(times) * 1e-9 / bench.pool.threads());
  }
  return 0;
}
