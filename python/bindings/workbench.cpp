// The workbench as Python sees it: sequences by number, logits as fresh float32 arrays [n, vocabulary]. Steps release
// the GIL, so one thread at a time uses a workbench: another one that tries waits its turn.
#include "engine/workbench.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <mutex>

#include "bindings/bindings.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

using engine::EngineConfig;
using engine::StepStatistics;
using Sequence = engine::Workbench::Sequence;
using Tokens = std::vector<std::int32_t>;
using Logits = nb::ndarray<nb::numpy, float>;

// Memory of logits that Python let go of, for the next ones: fresh memory of tens of megabytes takes longer than a
// step of a device.
class Spare {
 public:
  std::unique_ptr<float[]> take(std::size_t count) {
    std::lock_guard lock(mutex_);
    for (auto& [size, memory] : kept_)
      if (size == count && memory) return std::move(memory);
    return std::make_unique_for_overwrite<float[]>(count);
  }
  void give(std::size_t count, std::unique_ptr<float[]> memory) {
    std::lock_guard lock(mutex_);
    std::erase_if(kept_, [](const auto& it) { return it.second == nullptr; });
    if (kept_.size() == kMost) kept_.erase(kept_.begin());
    kept_.emplace_back(count, std::move(memory));
  }

 private:
  static constexpr std::size_t kMost = 4;
  std::mutex mutex_;
  std::vector<std::pair<std::size_t, std::unique_ptr<float[]>>> kept_;
};

class Bench {
 public:
  Bench(std::shared_ptr<models::Model> model, const EngineConfig& config) : bench_(std::move(model), config) {}

  // Runs `work` without the GIL and alone.
  template <class Work>
  auto apart(Work&& work) {
    nb::gil_scoped_release unlocked;
    std::lock_guard lock(mutex_);
    return work(bench_);
  }

  const engine::Workbench& unlocked() const { return bench_; }

  Logits decode(const std::vector<Sequence>& sequences, const Tokens& tokens) {
    std::unique_ptr<float[]> memory;
    std::size_t vocabulary = vocabulary_();
    apart([&](engine::Workbench& bench) {
      std::span<const float> logits = bench.decode(sequences, tokens);
      memory = spare_->take(logits.size());
      std::memcpy(memory.get(), logits.data(), logits.size_bytes());
    });
    return array(std::move(memory), {sequences.size(), vocabulary});
  }

  std::pair<Sequence, Logits> prefill_with_logits(const Tokens& tokens) {
    std::size_t vocabulary = vocabulary_();
    auto memory = std::make_unique_for_overwrite<float[]>(vocabulary);
    Sequence sequence = apart([&](engine::Workbench& bench) { return bench.prefill(tokens, memory.get()); });
    return {sequence, array(std::move(memory), {vocabulary})};
  }

 private:
  std::size_t vocabulary_() { return static_cast<std::size_t>(bench_.model().config().vocabulary); }

  Logits array(std::unique_ptr<float[]> memory, std::initializer_list<std::size_t> shape) {
    struct Owner {
      std::shared_ptr<Spare> spare;
      std::size_t count;
      std::unique_ptr<float[]> memory;
    };
    std::size_t count = 1;
    for (const std::size_t size : shape) count *= size;
    float* const data = memory.get();
    auto owner = std::make_unique<Owner>(spare_, count, std::move(memory));
    nb::capsule capsule(owner.get(), [](void* pointer) noexcept {
      const std::unique_ptr<Owner> it(static_cast<Owner*>(pointer));
      it->spare->give(it->count, std::move(it->memory));
    });
    owner.release();
    return Logits(data, shape, capsule);
  }

  engine::Workbench bench_;
  std::mutex mutex_;
  std::shared_ptr<Spare> spare_ = std::make_shared<Spare>();  // arrays outlive the workbench
};

}  // namespace

void bind_workbench(nb::module_& m) {
  nb::class_<StepStatistics> statistics(m, "StepStatistics",
                                        "What steps cost, part by part; sums since the last reset.");
  statistics.def_ro("steps", &StepStatistics::steps)
      .def_ro("tokens", &StepStatistics::tokens)
      .def_ro("seconds", &StepStatistics::seconds)
      .def_ro("append_seconds", &StepStatistics::append_seconds)
      .def_ro("summarize_seconds", &StepStatistics::summarize_seconds)
      .def_ro("score_seconds", &StepStatistics::score_seconds)
      .def_ro("select_seconds", &StepStatistics::select_seconds)
      .def_ro("attend_seconds", &StepStatistics::attend_seconds)
      .def_ro("prefill_seconds", &StepStatistics::prefill_seconds)
      .def_ro("other_seconds", &StepStatistics::other_seconds, "The model without its attention.")
      .def_ro("rows", &StepStatistics::rows, "(sequence, KV head, layer) decoded.")
      .def_ro("sparse_rows", &StepStatistics::sparse_rows, "Rows that attended a list of pages.")
      .def_ro("reused_rows", &StepStatistics::reused_rows,
              "Of these, rows whose list an earlier layer or an earlier step chose.")
      .def_ro("covered_rows", &StepStatistics::covered_rows, "Rows of a flow whose budget covered every page.")
      .def_ro("candidate_pages", &StepStatistics::candidate_pages)
      .def_ro("attended_pages", &StepStatistics::attended_pages)
      .def_ro("attended_tokens", &StepStatistics::attended_tokens)
      .def_ro("summary_bytes", &StepStatistics::summary_bytes, "Read by scoring.")
      .def_ro("kv_bytes", &StepStatistics::kv_bytes, "Read by attending.")
      .def_ro("summarized_pages", &StepStatistics::summarized_pages)
      .def_ro("rebuilt_summaries", &StepStatistics::rebuilt_summaries);

  nb::class_<Bench>(m, "Workbench", "Measures without a scheduler: prefill once, fork per arm, decode each arm.")
      .def(
          "__init__",
          [](Bench* self, std::shared_ptr<models::Model> model, std::int64_t page_size, std::int64_t pages,
             std::int64_t memory_bytes, std::int64_t max_batch, std::int64_t chunk_tokens, std::int64_t max_context,
             std::int32_t threads, const std::string& kv_dtype, bool deterministic) {
            new (self) Bench(std::move(model), {.page_size = page_size,
                                                .pages = pages,
                                                .memory_bytes = memory_bytes,
                                                .max_batch = max_batch,
                                                .chunk_tokens = chunk_tokens,
                                                .max_context = max_context,
                                                .threads = threads,
                                                .deterministic = deterministic,
                                                .kv_type = attention::kv_type_of(kv_dtype)});
          },
          nb::arg("model"), nb::kw_only(), nb::arg("page_size") = EngineConfig{}.page_size, nb::arg("pages") = 0,
          nb::arg("memory_bytes") = 0, nb::arg("max_batch") = EngineConfig{}.max_batch,
          nb::arg("chunk_tokens") = EngineConfig{}.chunk_tokens, nb::arg("max_context") = 0, nb::arg("threads") = 0,
          nb::arg("kv_dtype") = "bf16", nb::arg("deterministic") = false)
      .def(
          "load_flow",
          [](Bench& self, const ir::Program& flow) {
            return self.apart([&](engine::Workbench& bench) { return bench.load_flow(flow); });
          },
          nb::arg("flow"), "Compiles the flow for the model; returns its id.")
      .def(
          "build_ahead",
          [](Bench& self, const ir::Program& flow) {
            nb::gil_scoped_release unlocked;
            self.unlocked().build_ahead(flow);
          },
          nb::arg("flow"),
          "Compiles the flow's kernels for the device into the cache on disk, where load_flow finds them. May be "
          "called "
          "from several threads, beside anything else.")
      .def(
          "unload_flow",
          [](Bench& self, int flow) { self.apart([&](engine::Workbench& bench) { bench.unload_flow(flow); }); },
          nb::arg("flow"), "Frees the flow's summaries; its sequences must have been released.")
      .def(
          "prefill",
          [](Bench& self, const Tokens& tokens) {
            return self.apart([&](engine::Workbench& bench) { return bench.prefill(tokens); });
          },
          nb::arg("tokens"), "A new full-attention sequence that holds the KV of the tokens.")
      .def("prefill_with_logits", &Bench::prefill_with_logits, nb::arg("tokens"),
           "The same, with the logits [vocabulary] that follow the last token.")
      .def(
          "fill",
          [](Bench& self, std::int64_t tokens, std::uint64_t seed) {
            return self.apart([&](engine::Workbench& bench) { return bench.fill(tokens, seed); });
          },
          nb::arg("tokens"), nb::arg("seed") = 0, "A sequence of random KV on shuffled pages, for speed runs.")
      .def(
          "fork",
          [](Bench& self, Sequence sequence, int flow) {
            return self.apart([&](engine::Workbench& bench) { return bench.fork(sequence, flow); });
          },
          nb::arg("sequence"), nb::arg("flow") = engine::kFullAttention,
          "A sequence that shares the pages and decodes through the flow; -1: full attention.")
      .def(
          "release",
          [](Bench& self, Sequence sequence) {
            self.apart([&](engine::Workbench& bench) { bench.release(sequence); });
          },
          nb::arg("sequence"))
      .def(
          "truncate",
          [](Bench& self, Sequence sequence, std::int64_t tokens) {
            self.apart([&](engine::Workbench& bench) { bench.truncate(sequence, tokens); });
          },
          nb::arg("sequence"), nb::arg("tokens"), "Forgets the tokens from `tokens` on.")
      .def(
          "length",
          [](Bench& self, Sequence sequence) {
            return self.apart([&](engine::Workbench& bench) { return bench.length(sequence); });
          },
          nb::arg("sequence"))
      .def("decode", &Bench::decode, nb::arg("sequences"), nb::arg("tokens"),
           "Appends tokens[i] to sequences[i]; returns the logits [n, vocabulary] that follow.")
      .def(
          "greedy",
          [](Bench& self, const std::vector<Sequence>& sequences, const Tokens& tokens, std::int64_t steps) {
            return self.apart([&](engine::Workbench& bench) { return bench.greedy(sequences, tokens, steps); });
          },
          nb::arg("sequences"), nb::arg("tokens"), nb::arg("steps"),
          "Greedy steps from tokens[i]; the chosen tokens, one step after the other: [steps · n].")
      .def(
          "feed",
          [](Bench& self, const std::vector<Sequence>& sequences, const Tokens& tokens, bool said) {
            return self.apart([&](engine::Workbench& bench) { return bench.feed(sequences, tokens, said); });
          },
          nb::arg("sequences"), nb::arg("tokens"), nb::kw_only(), nb::arg("said") = true,
          "Steps that are fed tokens [steps · n], one step after the other; the likeliest token of each: [steps · n]. "
          "said: "
          "False where nobody asks for them, which makes no logits on the CPU and gives none.")
      .def(
          "profile",
          [](Bench& self, const std::vector<Sequence>& sequences, const Tokens& tokens) {
            const engine::StepProfile found =
                self.apart([&](engine::Workbench& bench) { return bench.profile(sequences, tokens); });
            nb::list kernels;
            for (const device::KernelTime& it : found.kernels) {
              nb::dict row;
              row["kernel"] = it.kernel;
              row["module"] = it.module;
              row["launches"] = it.launches;
              row["milliseconds"] = it.milliseconds;
              kernels.append(row);
            }
            nb::dict out;
            out["step_milliseconds"] = found.step_milliseconds;
            out["launches"] = found.launches;
            out["kernels"] = kernels;
            return out;
          },
          nb::arg("sequences"), nb::arg("tokens"),
          "Milliseconds of each kernel of such a decode step, alone, and of their graph. On a device.")
      .def(
          "record_pages",
          [](Bench& self, bool on) { self.apart([&](engine::Workbench& bench) { bench.record_pages(on); }); },
          nb::arg("on"), "Keep, from the next step on, which pages each row attends.")
      .def(
          "page_list",
          [](Bench& self, Sequence sequence, std::int64_t layer, std::int64_t kv_head) {
            return self.apart([&](engine::Workbench& bench) { return bench.page_list(sequence, layer, kv_head); });
          },
          nb::arg("sequence"), nb::arg("layer"), nb::arg("kv_head"),
          "The ascending pages that the sequence attended in its last recorded decode.")
      .def("reset_statistics",
           [](Bench& self) { self.apart([](engine::Workbench& bench) { bench.reset_statistics(); }); })
      .def("check_integrity",
           [](Bench& self) { self.apart([](engine::Workbench& bench) { bench.check_integrity(); }); })
      .def(
          "attended",
          [](Bench& self, Sequence sequence) {
            auto sum = self.apart([&](engine::Workbench& bench) { return bench.attended(sequence); });
            return std::pair(sum.pages, sum.tokens);
          },
          nb::arg("sequence"),
          "(flow pages, tokens) that the sequence attended in its last recorded decode, summed over layers and KV "
          "heads.")
      .def(
          "save",
          [](Bench& self, Sequence sequence) {
            auto bytes = self.apart([&](engine::Workbench& bench) { return bench.save(sequence); });
            return nb::bytes(bytes.data(), bytes.size());
          },
          nb::arg("sequence"), "The KV of a prefilled sequence, for `restore` of a workbench like this one.")
      .def(
          "restore",
          [](Bench& self, const nb::bytes& saved, std::int64_t tokens) {
            std::span bytes(static_cast<const std::byte*>(saved.data()), saved.size());
            return self.apart([&](engine::Workbench& bench) { return bench.restore(bytes, tokens); });
          },
          nb::arg("saved"), nb::arg("tokens"), "A new full-attention sequence with the KV that `save` gave.")
      .def_prop_ro("statistics",
                   [](Bench& self) { return self.apart([](engine::Workbench& bench) { return bench.statistics(); }); })
      .def_prop_ro("kv_bytes",
                   [](Bench& self) { return self.apart([](engine::Workbench& bench) { return bench.kv_bytes(); }); })
      .def_prop_ro(
          "summary_bytes",
          [](Bench& self) { return self.apart([](engine::Workbench& bench) { return bench.summary_bytes(); }); })
      .def_prop_ro("free_pages",
                   [](Bench& self) { return self.apart([](engine::Workbench& bench) { return bench.free_pages(); }); })
      .def_prop_ro(
          "page_size",
          [](Bench& self) { return self.apart([](engine::Workbench& bench) { return bench.config().page_size; }); })
      .def_prop_ro(
          "max_context",
          [](Bench& self) { return self.apart([](engine::Workbench& bench) { return bench.config().max_context; }); })
      .def_prop_ro("max_batch", [](Bench& self) {
        return self.apart([](engine::Workbench& bench) { return bench.config().max_batch; });
      });
}

}  // namespace vortex::python
