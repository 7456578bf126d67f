// The engine from Python: requests in, events out. The interpreter lock is released while a step runs.
#include "engine/engine.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/text.h"
#include "bindings/bindings.h"
#include "ir/program.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

using engine::Engine;
using engine::EngineConfig;
using engine::Event;
using engine::SamplingParams;
using engine::Statistics;

std::string show(const Event& event) {
  return concat("Event(request=", event.request, ", token=", event.token, ", logprob=", event.logprob, ", finished=\"",
                engine::name_of(event.finished), "\")");
}

void bind_config(nb::module_& m) {
  nb::class_<EngineConfig>(m, "EngineConfig", "How an engine is made; 0 leaves a size to the engine.")
      .def(
          "__init__",
          [](EngineConfig* self, std::int64_t page_size, std::int64_t pages, std::int64_t memory_bytes,
             std::int64_t max_batch, std::int64_t chunk_tokens, std::int64_t max_context, std::int32_t threads,
             bool prefix_cache, std::uint64_t seed) {
            new (self) EngineConfig{page_size,   pages,   memory_bytes, max_batch, chunk_tokens,
                                    max_context, threads, prefix_cache, seed};
          },
          nb::kw_only(), nb::arg("page_size") = 16, nb::arg("pages") = 0, nb::arg("memory_bytes") = 0,
          nb::arg("max_batch") = 16, nb::arg("chunk_tokens") = 512, nb::arg("max_context") = 0, nb::arg("threads") = 0,
          nb::arg("prefix_cache") = true, nb::arg("seed") = 0)
      .def_ro("page_size", &EngineConfig::page_size, "Tokens of a physical page.")
      .def_ro("pages", &EngineConfig::pages, "Physical pages of the pool.")
      .def_ro("memory_bytes", &EngineConfig::memory_bytes, "KV and summaries together.")
      .def_ro("max_batch", &EngineConfig::max_batch, "Sequences that run at once.")
      .def_ro("chunk_tokens", &EngineConfig::chunk_tokens, "Prompt tokens a step works on.")
      .def_ro("max_context", &EngineConfig::max_context, "Tokens a request may hold, prompt and answer.")
      .def_ro("threads", &EngineConfig::threads)
      .def_ro("prefix_cache", &EngineConfig::prefix_cache)
      .def_ro("seed", &EngineConfig::seed);
}

void bind_statistics(nb::module_& m) {
  nb::class_<Statistics>(m, "EngineStatistics", "Counts since the engine began, and how full it is.")
      .def_ro("steps", &Statistics::steps)
      .def_ro("prefill_tokens", &Statistics::prefill_tokens)
      .def_ro("decode_tokens", &Statistics::decode_tokens)
      .def_ro("prefix_hit_tokens", &Statistics::prefix_hit_tokens)
      .def_ro("preemptions", &Statistics::preemptions)
      .def_ro("restores", &Statistics::restores)
      .def_ro("evicted_pages", &Statistics::evicted_pages)
      .def_ro("copied_pages", &Statistics::copied_pages)
      .def_ro("rebuilt_summaries", &Statistics::rebuilt_summaries)
      .def_ro("waiting", &Statistics::waiting)
      .def_ro("running", &Statistics::running)
      .def_ro("preempted", &Statistics::preempted)
      .def_ro("pages", &Statistics::pages)
      .def_ro("free_pages", &Statistics::free_pages)
      .def_ro("cached_pages", &Statistics::cached_pages)
      .def_ro("kv_bytes", &Statistics::kv_bytes)
      .def_ro("summary_bytes", &Statistics::summary_bytes)
      .def_ro("host_bytes", &Statistics::host_bytes)
      .def_ro("seconds", &Statistics::seconds)
      .def_ro("model_seconds", &Statistics::model_seconds);
}

}  // namespace

void bind_engine(nb::module_& m) {
  bind_config(m);
  bind_statistics(m);
  m.attr("FULL_ATTENTION") = engine::kFullAttention;

  nb::class_<Event>(m, "Event", "What a step did for one request.")
      .def_ro("request", &Event::request)
      .def_ro("token", &Event::token, "-1: none.")
      .def_ro("logprob", &Event::logprob, "Under softmax(logits), before temperature and cuts.")
      .def_prop_ro(
          "finished", [](const Event& event) { return engine::name_of(event.finished); },
          "none, stop, length, context, aborted or failed.")
      .def("__repr__", &show);

  nb::class_<Engine>(m, "Engine", "Requests in, tokens out. One thread calls it.")
      .def(
          "__init__",
          [](Engine* self, std::shared_ptr<models::Model> model, const EngineConfig& config) {
            new (self) Engine(std::move(model), config);
          },
          nb::arg("model"), nb::arg("config"))
      .def("load_flow", &Engine::load_flow, nb::arg("program"),
           "Compiles a flow for this model; the same flow with the same config has one id.")
      .def(
          "submit",
          [](Engine& self, std::vector<std::int32_t> prompt, std::int64_t max_new_tokens, float temperature,
             std::int32_t top_k, float top_p, std::uint64_t seed, std::vector<std::int32_t> stop_tokens, int flow) {
            return self.submit({.prompt = std::move(prompt),
                                .max_new_tokens = max_new_tokens,
                                .sampling = {temperature, top_k, top_p, seed},
                                .stop_tokens = std::move(stop_tokens),
                                .flow = flow});
          },
          nb::arg("prompt"), nb::kw_only(), nb::arg("max_new_tokens") = 16, nb::arg("temperature") = 0.0f,
          nb::arg("top_k") = 0, nb::arg("top_p") = 1.0f, nb::arg("seed") = 0,
          nb::arg("stop_tokens") = std::vector<std::int32_t>(), nb::arg("flow") = engine::kFullAttention,
          "Queues a request and returns its number.")
      .def(
          "fork",
          [](Engine& self, std::int64_t request, float temperature, std::int32_t top_k, float top_p,
             std::uint64_t seed) {
            return self.fork(request, {temperature, top_k, top_p, seed});
          },
          nb::arg("request"), nb::kw_only(), nb::arg("temperature") = 0.0f, nb::arg("top_k") = 0,
          nb::arg("top_p") = 1.0f, nb::arg("seed") = 0,
          "A second request that goes on from where this one is, sharing its pages.")
      .def("abort", &Engine::abort, nb::arg("request"), "False when there is no such unfinished request.")
      .def(
          "step",
          [](Engine& self) {
            nb::gil_scoped_release unlocked;
            return std::vector<Event>(self.step());
          },
          "One step over all running requests; its events.")
      .def_prop_ro("idle", &Engine::idle, "Nothing waits, runs, or has an event to report.")
      .def_prop_ro("config", &Engine::config)
      .def("statistics", &Engine::statistics)
      .def("check_integrity", &Engine::check_integrity);
}

}  // namespace vortex::python
