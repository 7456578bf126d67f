// Times the score stages of the ready flows on one core: all layers, sequences and KV heads of a decode step, physical
// pages shuffled, every layer with its own arenas. Beside it stands a plain read of the same arenas in the same
// process. Each flow's last scores are checked against the interpreter. Method: layers are timed one by one, in turns
// with the plain read; a figure sums the best time of each layer over the repetitions.
//   bench_score [context] [batch] [repetitions]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "base/check.h"
#include "codegen/cpu/flow.h"
#include "ir/interpret.h"
#include "kernels/cpu/large_buffer.h"
#include "support/flows.h"

namespace {

using namespace vortex;

constexpr std::int64_t kLayers = 30, kHeads = 3, kGroup = 3, kDim = 64, kPage = 16;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Reads every byte; the sum keeps the loop.
std::uint64_t read_all(const kernels::LargeBuffer& arena) {
  const std::uint8_t* data = arena.data();
  std::uint64_t sums[8] = {};
  for (std::int64_t i = 0; i + 64 <= arena.size(); i += 64) {
    std::uint64_t words[8];
    std::memcpy(words, data + i, 64);
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
  }
  return std::accumulate(sums, sums + 8, std::uint64_t{0});
}

struct Flow {
  std::string name;
  std::shared_ptr<const codegen::CpuFlow> flow;
  std::vector<std::vector<kernels::LargeBuffer>> arenas;  // [layers][fields] bf16 [pages, heads, elements]
};

Flow make(const testing::NamedFlow& named, std::int64_t pages, std::mt19937& random) {
  Flow out{named.name,
           codegen::CpuFlow::build(compiler::compile(ir::parse(named.text("budget=32")), {kPage, kDim, kGroup})),
           {}};
  for (std::int64_t layer = 0; layer < kLayers; ++layer) {
    out.arenas.emplace_back();
    for (const codegen::FieldLayout& field : out.flow->fields()) {
      kernels::LargeBuffer arena(pages * kHeads * field.elements * 2);
      auto* values = reinterpret_cast<BFloat16*>(arena.data());
      for (std::int64_t i = 0; i < pages * kHeads * field.elements; ++i)
        values[i] = to_bfloat16(static_cast<float>(random() % 2001) * 1e-3f - 1.0f);
      out.arenas.back().push_back(std::move(arena));
    }
  }
  return out;
}

void check(const Flow& flow, const codegen::RowArguments& row, const std::vector<float>& q) {
  ir::Environment environment;
  environment.geometry = {kPage, kDim, kGroup};
  std::map<std::string, ir::Tensor> summaries;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(row.candidates));
  std::iota(indices.begin(), indices.end(), row.first_page);
  for (std::size_t f = 0; f < flow.flow->fields().size(); ++f) {
    const std::int64_t elements = flow.flow->fields()[f].elements;
    ir::Tensor& tensor = summaries[flow.flow->fields()[f].name];
    tensor.shape = {row.candidates, elements};
    for (std::int64_t p = 0; p < row.candidates; ++p)
      for (std::int64_t e = 0; e < elements; ++e)
        tensor.data.push_back(static_cast<double>(to_float(
            static_cast<const BFloat16*>(row.fields[f].base)[row.summary_page[p] * row.fields[f].page_stride + e])));
  }
  const std::vector<double> expected = ir::interpret_scores(flow.flow->plan().program, environment,
                                                            {{kGroup, kDim}, {q.begin(), q.end()}}, summaries, indices);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(static_cast<double>(row.scores[i]) - expected[i], 2);
    size += expected[i] * expected[i];
  }
  VORTEX_CHECK(std::sqrt(error / size) < 2e-5, flow.name, " has a normalised error of ", std::sqrt(error / size));
}

void run(const Flow& flow, std::int64_t context, std::int64_t batch, int repetitions, std::mt19937& random) {
  const std::int64_t candidates = context / kPage - 3;
  std::vector<std::int32_t> pages(static_cast<std::size_t>(candidates * batch));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  std::vector<float> q(static_cast<std::size_t>(kGroup * kDim));
  for (float& x : q) x = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
  std::vector<float> scores(static_cast<std::size_t>(candidates)),
      scratch(static_cast<std::size_t>(flow.flow->scratch_floats())),
      workspace(static_cast<std::size_t>(flow.flow->workspace_floats(candidates)));
  std::vector<double> best_score(kLayers, 1e9), best_read(kLayers, 1e9), best_finish(kLayers, 1e9);
  std::vector<codegen::FieldView> views(flow.flow->fields().size());
  codegen::RowArguments row;
  row.q = q.data();
  row.fields = views.data();
  row.candidates = candidates;
  row.first_page = 1;
  row.scores = scores.data();
  row.workspace = workspace.data();
  double bytes = 0;
  volatile std::uint64_t sink = 0;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    bytes = 0;
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(kLayers); ++layer) {
      double begin = seconds(), finish = 0;
      for (std::int64_t sequence = 0; sequence < batch; ++sequence) {
        for (std::int64_t head = 0; head < kHeads; ++head) {
          for (std::size_t f = 0; f < views.size(); ++f) {
            const std::int64_t elements = flow.flow->fields()[f].elements;
            views[f] = {reinterpret_cast<BFloat16*>(flow.arenas[layer][f].data()) + head * elements, kHeads * elements};
            bytes += static_cast<double>(candidates * elements * 2);
          }
          row.summary_page = pages.data() + sequence * candidates;
          flow.flow->run_row(row, scratch.data());
          for (int stage = 0; stage < flow.flow->page_stages(); ++stage) {
            const double stage_begin = seconds();
            if (stage > 0) flow.flow->run_finish(stage - 1, row, scratch.data());
            flow.flow->run_page(stage, std::span(&row, 1), 0, candidates, scratch.data());
            if (stage > 0) finish += seconds() - stage_begin;
          }
        }
      }
      best_score[layer] = std::min(best_score[layer], seconds() - begin);
      best_finish[layer] = std::min(best_finish[layer], finish);
      begin = seconds();
      for (const auto& arena : flow.arenas[layer]) sink = sink + read_all(arena);
      best_read[layer] = std::min(best_read[layer], seconds() - begin);
    }
  }
  check(flow, row, q);
  const double score = std::accumulate(best_score.begin(), best_score.end(), 0.0);
  const double read = std::accumulate(best_read.begin(), best_read.end(), 0.0);
  const double finish = std::accumulate(best_finish.begin(), best_finish.end(), 0.0);
  std::printf(
      "%-16s %8.2f MB  score %7.3f ms (%5.2f GB/s, %4.1f %% after the first page stage)  plain read %7.3f ms "
      "(%5.2f GB/s)  score/read %.2f\n",
      flow.name.c_str(), bytes / 1e6, score * 1e3, bytes / score / 1e9, 100 * finish / score, read * 1e3,
      bytes / read / 1e9, score / read);
}

}  // namespace

int main(int count, char** arguments) {
  auto number = [&](int i, std::int64_t fallback) {
    return count > i ? std::strtoll(arguments[i], nullptr, 10) : fallback;
  };
  const std::int64_t context = number(1, 7500), batch = number(2, 8);
  const int repetitions = static_cast<int>(number(3, 30));
  std::mt19937 random(1);
  std::printf(
      "score stages of one decode step, one core: %lld layers, %lld KV heads, group %lld, dim %lld, context %lld, "
      "batch %lld\n",
      static_cast<long long>(kLayers), static_cast<long long>(kHeads), static_cast<long long>(kGroup),
      static_cast<long long>(kDim), static_cast<long long>(context), static_cast<long long>(batch));
  for (const auto& named : {testing::centroid_flow(), testing::quest_flow(), testing::mean_deviation_flow()})
    run(make(named, (context / kPage - 3) * batch, random), context, batch, repetitions, random);
}
