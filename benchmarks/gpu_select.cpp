// Times selection alone on a GPU: exact top-k lists of rows whose scores lie in memory, in one graph of 24 launches.
// Every list is compared with a sort on the host before it is timed.
//   bench_gpu_select [CANDIDATES...]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "attention/cuda/chain.h"

namespace {

using namespace vortex;
using device::Array;

constexpr int kHeads = 8, kPage = 16, kBudget = 32, kLaunches = 24;

// Rows whose lists are not those of a sort.
int wrong_lists(const std::vector<float>& scores, int capacity, int candidates, const std::vector<int>& lists,
                const std::vector<int>& physical, const std::vector<int>& tables, int rows) {
  int wrong = 0;
  for (int row = 0; row < rows; ++row) {
    const float* of_row = scores.data() + static_cast<std::ptrdiff_t>(row) * capacity;
    std::vector<int> order(static_cast<std::size_t>(candidates));
    std::iota(order.begin(), order.end(), 0);
    const int chosen = kBudget - 2;  // the first page and the last are always listed
    std::partial_sort(order.begin(), order.begin() + chosen, order.end(),
                      [&](int a, int b) { return of_row[a] != of_row[b] ? of_row[a] > of_row[b] : a < b; });
    std::vector<int> expected = {0};
    for (int i = 0; i < chosen; ++i) expected.push_back(order[static_cast<std::size_t>(i)] + 1);
    expected.push_back(candidates + 1);
    std::sort(expected.begin(), expected.end());
    const auto at = static_cast<std::ptrdiff_t>(row) * kBudget;
    bool right = std::equal(expected.begin(), expected.end(), lists.begin() + at);
    for (std::size_t i = 0; i < expected.size(); ++i)
      right = right && physical[static_cast<std::size_t>(at) + i] ==
                           tables[static_cast<std::size_t>(row / kHeads * (candidates + 2) + expected[i])];
    wrong += right ? 0 : 1;
  }
  return wrong;
}

}  // namespace

int main(int count, char** words) {
  std::vector<int> sizes;
  for (int i = 1; i < count; ++i) sizes.push_back(std::atoi(words[i]));
  if (sizes.empty()) sizes = {1024, 2048, 8192};
  try {
    const auto device = device::open(device::Kind::cuda);
    std::printf("%s; budget %d pages; median of 15 graphs of %d launches\n", device->describe().c_str(), kBudget,
                kLaunches);
    const auto stream = device->make_stream();
    const attention::CudaChain chain(*device);
    ir::FlowConfig config;
    config.budget = kBudget, config.sinks = 1, config.recent = 1;
    for (const int candidates : sizes) {
      for (const int rows : {8, 64, 512, 2048}) {
        const int sequences = rows / kHeads, stride = candidates + 2;
        std::mt19937 random(7);
        std::normal_distribution<float> normal;
        std::vector<float> scores(static_cast<std::size_t>(rows) * static_cast<std::size_t>(candidates));
        for (float& score : scores) score = std::exp(normal(random) * 1.5f);
        std::vector<int> tables(static_cast<std::size_t>(sequences * stride));
        std::iota(tables.begin(), tables.end(), 0);
        std::shuffle(tables.begin(), tables.end(), random);
        const Array<float> device_scores = device::upload(device, *stream, scores);
        const Array<int> device_tables = device::upload(device, *stream, tables);
        const Array<int> tokens =
            device::upload(device, *stream, std::vector<int>(static_cast<std::size_t>(sequences), stride * kPage));
        const Array<cuda::SequencePlan> plans(device, sequences);
        Array<int> pages(device, rows * kBudget), physical(device, rows * kBudget), counts(device, rows),
            listed(device, rows);
        for (Array<int>* array : {&pages, &physical, &counts, &listed}) array->fill(*stream, 0xff);
        const vortex_batch batch{sequences, device_tables.data(), stride, tokens.data(), nullptr, nullptr};
        const attention::CudaScores from{plans.data(), device_scores.data(), nullptr, 0, candidates};
        const attention::CudaSelection to{
            {kPage, pages.data(), kBudget, counts.data()}, physical.data(), kBudget, listed.data()};
        const vortex_geometry geometry{kHeads, 2, 128, kPage, 1.0f, 0, 0};
        chain.plan(*stream, batch, &config, 0, nullptr, plans.data());
        chain.select(*stream, geometry, batch, from, to);
        const int wrong = wrong_lists(scores, candidates, candidates, pages.download(*stream),
                                      physical.download(*stream), tables, rows);
        stream->begin_capture();
        for (int i = 0; i < kLaunches; ++i) chain.select(*stream, geometry, batch, from, to);
        const auto graph = stream->end_capture();
        std::vector<double> times;
        for (int i = 0; i < 15; ++i) {
          const auto begin = device->make_event(), end = device->make_event();
          stream->record(*begin);
          stream->launch(*graph);
          stream->record(*end);
          stream->synchronize();
          times.push_back(device->milliseconds(*begin, *end) * 1e3 / kLaunches);
        }
        std::sort(times.begin(), times.end());
        std::printf("%5d candidates, %4d rows: %6.2f us a launch%s\n", candidates, rows, times[times.size() / 2],
                    wrong == 0 ? "" : "  WRONG LISTS");
        if (wrong != 0) std::printf("  %d of %d lists are not those of a sort\n", wrong, rows);
        std::fflush(stdout);
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
