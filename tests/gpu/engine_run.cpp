#include "gpu/engine_run.h"

#include <algorithm>
#include <cmath>

#include "engine/workbench.h"

namespace vortex::gpu_tests {

WalkResult run_on_engine(const models::ModelConfig& config, const models::Weights& weights,
                         const std::optional<ir::Program>& program, const std::vector<std::vector<int>>& prompts,
                         int decode_tokens) {
  WalkResult out;
  out.prompts_recorded = false;
  out.device = "cpu";
  for (const auto& prompt : prompts) out.positions = std::max(out.positions, static_cast<int>(prompt.size()));
  out.positions += decode_tokens;
  out.sequences = static_cast<int>(prompts.size());
  out.layers = static_cast<int>(config.layers), out.kv_heads = static_cast<int>(config.kv_heads);
  out.vocabulary = static_cast<int>(config.vocabulary);

  ThreadPool threads(1);
  engine::EngineConfig settings;
  settings.pages = 4 * (out.positions / settings.page_size + 2);
  settings.threads = 1;
  engine::Workbench bench(models::make_model(config, weights, threads), settings);
  bench.record_pages(true);
  const int flow = program ? bench.load_flow(*program) : engine::kFullAttention;
  out.list_page_size = static_cast<int>(program ? program->config.page_size : settings.page_size);
  out.list_stride = (out.positions + out.list_page_size - 1) / out.list_page_size;
  const auto is_sparse = [&](int layer) {
    return program && std::ranges::count(program->config.full_attention_layers, layer) == 0;
  };

  const std::size_t n = prompts.size(), rows = n * static_cast<std::size_t>(out.kv_heads);
  const std::size_t positions = static_cast<std::size_t>(out.positions);
  out.tokens.assign((positions + 1) * n, -1);
  out.logits.assign(positions * n * static_cast<std::size_t>(out.vocabulary), 0.0f);
  out.counts.assign(positions * static_cast<std::size_t>(out.layers) * rows, 0);
  out.lists.assign(out.counts.size() * static_cast<std::size_t>(out.list_stride), -1);

  for (std::size_t s = 0; s < n; ++s) {
    for (std::size_t i = 0; i < prompts[s].size(); ++i) out.tokens[i * n + s] = prompts[s][i];
    std::vector<float> logits(static_cast<std::size_t>(config.vocabulary));
    const auto prefilled = bench.prefill(prompts[s], logits.data());
    const auto decoding = bench.fork(prefilled, flow);
    for (std::size_t position = prompts[s].size() - 1;; ++position) {
      std::copy(logits.begin(), logits.end(),
                out.logits.begin() + static_cast<std::ptrdiff_t>((position * n + s) * logits.size()));
      const std::int32_t next =
          static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      out.tokens[(position + 1) * n + s] = next;
      if (position + 1 == positions) break;
      const std::span<const float> came = bench.decode({&decoding, 1}, {&next, 1});
      logits.assign(came.begin(), came.end());
      for (int layer = 0; layer < out.layers; ++layer) {
        for (int head = 0; head < out.kv_heads; ++head) {
          const std::size_t row = s * static_cast<std::size_t>(out.kv_heads) + static_cast<std::size_t>(head);
          const std::size_t at =
              ((position + 1) * static_cast<std::size_t>(out.layers) + static_cast<std::size_t>(layer)) * rows + row;
          std::vector<std::int32_t> list;
          if (is_sparse(layer)) {
            list = bench.page_list(decoding, layer, head);
          } else {  // the engine names the pages of a full-attention layer in its own page size
            const int tokens = static_cast<int>(position) + 2;
            for (int page = 0; page * out.list_page_size < tokens; ++page) list.push_back(page);
          }
          out.counts[at] = static_cast<int>(list.size());
          std::copy(list.begin(), list.end(),
                    out.lists.begin() + static_cast<std::ptrdiff_t>(at * static_cast<std::size_t>(out.list_stride)));
        }
      }
    }
    bench.release(decoding);
    bench.release(prefilled);
  }
  return out;
}

Parting compare_runs(const std::vector<std::vector<int>>& prompts, const WalkResult& a, const WalkResult& b) {
  Parting out;
  const std::size_t n = prompts.size();
  for (std::size_t s = 0; s < n; ++s) {
    const int sequence = static_cast<int>(s);
    for (int position = static_cast<int>(prompts[s].size()) - 1; position < a.positions; ++position) {
      const float *of_a = a.logits_at(position, sequence), *of_b = b.logits_at(position, sequence);
      for (int i = 0; i < a.vocabulary; ++i) {
        const double difference = std::abs(static_cast<double>(of_a[i]) - static_cast<double>(of_b[i]));
        if (!(difference <= out.worst_logit)) out.worst_logit = difference;
      }
      if (position >= static_cast<int>(prompts[s].size())) {
        for (int layer = 0; layer < a.layers; ++layer) {
          for (int head = 0; head < a.kv_heads; ++head) {
            const int row = sequence * a.kv_heads + head;
            ++out.lists;
            out.lists_different += a.list(position, layer, row) != b.list(position, layer, row);
          }
        }
      }
      const std::size_t next = static_cast<std::size_t>(position + 1) * n + s;
      ++out.tokens;
      if (a.tokens[next] == b.tokens[next]) continue;
      ++out.sequences;
      const double gap = static_cast<double>(of_a[a.tokens[next]]) - static_cast<double>(of_a[b.tokens[next]]);
      out.worst_token_gap = std::max(out.worst_token_gap, gap);
      break;
    }
  }
  return out;
}

}  // namespace vortex::gpu_tests
