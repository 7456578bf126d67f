// The engine from Python: requests in, events out. The interpreter lock is released while a step runs.
#include "engine/engine.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>

#include "base/memory.h"
#include "base/text.h"
#include "bindings/bindings.h"
#include "engine/sampler.h"
#include "ir/program.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

using engine::Engine;
using engine::EngineConfig;
using engine::Event;
using engine::Sampled;
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
             bool prefix_cache, bool deterministic, bool overlap, std::uint64_t seed, const std::string& kv_dtype) {
            new (self) EngineConfig{.page_size = page_size,
                                    .pages = pages,
                                    .memory_bytes = memory_bytes,
                                    .max_batch = max_batch,
                                    .chunk_tokens = chunk_tokens,
                                    .max_context = max_context,
                                    .threads = threads,
                                    .prefix_cache = prefix_cache,
                                    .deterministic = deterministic,
                                    .overlap = overlap,
                                    .seed = seed,
                                    .kv_type = attention::kv_type_of(kv_dtype)};
          },
          nb::kw_only(), nb::arg("page_size") = 16, nb::arg("pages") = 0, nb::arg("memory_bytes") = 0,
          nb::arg("max_batch") = 16, nb::arg("chunk_tokens") = EngineConfig{}.chunk_tokens, nb::arg("max_context") = 0,
          nb::arg("threads") = 0, nb::arg("prefix_cache") = true, nb::arg("deterministic") = false,
          nb::arg("overlap") = true, nb::arg("seed") = 0, nb::arg("kv_dtype") = "bf16")
      .def_ro("page_size", &EngineConfig::page_size, "Tokens of a physical page.")
      .def_ro("pages", &EngineConfig::pages, "Physical pages of the pool.")
      .def_ro("memory_bytes", &EngineConfig::memory_bytes, "KV and summaries together.")
      .def_ro("max_batch", &EngineConfig::max_batch, "Sequences that run at once.")
      .def_ro("chunk_tokens", &EngineConfig::chunk_tokens, "Prompt tokens a step works on.")
      .def_ro("max_context", &EngineConfig::max_context, "Tokens a request may hold, prompt and answer.")
      .def_ro("threads", &EngineConfig::threads)
      .def_ro("prefix_cache", &EngineConfig::prefix_cache)
      .def_ro("deterministic", &EngineConfig::deterministic,
              "Whether what a request is answered depends on nothing but itself; on the CPU it never does.")
      .def_ro("overlap", &EngineConfig::overlap,
              "Whether a device is given a step before the host has read the tokens of the one before.")
      .def_ro("seed", &EngineConfig::seed)
      .def_prop_ro(
          "kv_dtype", [](const EngineConfig& config) { return attention::name_of(config.kv_type); },
          "How K and V are stored: \"bf16\", or \"int8\" or, on a device, \"fp8\" with a scale a token and KV head.");
}

std::vector<std::pair<std::int32_t, float>> pairs_of(const std::map<std::int32_t, float>& bias) {
  return {bias.begin(), bias.end()};
}

std::vector<std::pair<std::int32_t, float>> pairs_of(const std::vector<engine::TokenLogprob>& top) {
  std::vector<std::pair<std::int32_t, float>> pairs;
  for (const engine::TokenLogprob& it : top) pairs.emplace_back(it.token, it.logprob);
  return pairs;
}

// What one step of sampling chooses, without an engine.
std::tuple<std::int32_t, float, bool, std::vector<std::pair<std::int32_t, float>>> sample(
    const nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>& logits, const SamplingParams& sampling,
    double uniform, std::vector<std::int32_t> prompt, const std::vector<std::int32_t>& answer) {
  auto vocabulary = static_cast<std::int64_t>(logits.shape(0));
  if (vocabulary == 0) throw UserError("sample", "logits of at least one token", "none", "give some");
  sampling.validate(vocabulary);
  auto size = static_cast<std::int64_t>(prompt.size());
  prompt.insert(prompt.end(), answer.begin(), answer.end());
  for (std::int32_t token : prompt)
    if (token < 0 || token >= vocabulary)
      throw UserError("sample", concat("tokens below the vocabulary of ", vocabulary), concat("token ", token),
                      "give tokens that have logits");
  Sampled it = engine::Sampler(vocabulary)
                   .sample({logits.data(), logits.shape(0)}, sampling, {.tokens = prompt, .prompt = size}, uniform);
  return {it.token, it.logprob, it.banned, pairs_of(it.top)};
}

void bind_sampling(nb::module_& m) {
  nb::class_<SamplingParams>(m, "SamplingParams", "How a token is chosen; docs/engine.md says in which order.")
      .def(
          "__init__",
          [](SamplingParams* self, float temperature, std::int32_t top_k, float typical_p, float top_p, float min_p,
             float repetition_penalty, float presence_penalty, float frequency_penalty,
             const std::map<std::int32_t, float>& logit_bias, std::uint64_t seed, std::int32_t top_logprobs) {
            new (self) SamplingParams{.temperature = temperature,
                                      .top_k = top_k,
                                      .typical_p = typical_p,
                                      .top_p = top_p,
                                      .min_p = min_p,
                                      .repetition_penalty = repetition_penalty,
                                      .presence_penalty = presence_penalty,
                                      .frequency_penalty = frequency_penalty,
                                      .logit_bias = pairs_of(logit_bias),
                                      .seed = seed,
                                      .top_logprobs = top_logprobs};
          },
          nb::kw_only(), nb::arg("temperature") = 0.0f, nb::arg("top_k") = 0, nb::arg("typical_p") = 1.0f,
          nb::arg("top_p") = 1.0f, nb::arg("min_p") = 0.0f, nb::arg("repetition_penalty") = 1.0f,
          nb::arg("presence_penalty") = 0.0f, nb::arg("frequency_penalty") = 0.0f,
          nb::arg("logit_bias") = std::map<std::int32_t, float>(), nb::arg("seed") = 0, nb::arg("top_logprobs") = 0)
      .def("validate", &SamplingParams::validate, nb::arg("vocabulary"), "UserError naming the setting.");
  m.def("sample", &sample, nb::arg("logits"), nb::arg("sampling"), nb::arg("uniform"), nb::kw_only(),
        nb::arg("prompt") = std::vector<std::int32_t>(), nb::arg("answer") = std::vector<std::int32_t>(),
        "(token, log-probability, everything is banned, likeliest tokens) of one choice; uniform in [0, 1) decides a "
        "draw. token -1: there is none to choose.");
  m.def("uniform_of", &engine::uniform_of, nb::arg("seed"), nb::arg("position"),
        "The number in [0, 1) that decides the draw of the token at a position.");
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
      .def_ro("device_choices", &Statistics::device_choices, "Tokens chosen where the model runs.")
      .def_ro("host_choices", &Statistics::host_choices, "Tokens whose logits came to the host to be chosen.")
      .def_ro("waiting", &Statistics::waiting)
      .def_ro("running", &Statistics::running)
      .def_ro("preempted", &Statistics::preempted)
      .def_ro("pages", &Statistics::pages)
      .def_ro("free_pages", &Statistics::free_pages)
      .def_ro("cached_pages", &Statistics::cached_pages)
      .def_ro("kv_bytes", &Statistics::kv_bytes)
      .def_ro("summary_bytes", &Statistics::summary_bytes)
      .def_ro("host_bytes", &Statistics::host_bytes)
      .def_ro("carried_bytes", &Statistics::carried_bytes, "What flows of running sequences carry from step to step.")
      .def_ro("seconds", &Statistics::seconds)
      .def_ro("model_seconds", &Statistics::model_seconds);
}

}  // namespace

void bind_engine(nb::module_& m) {
  bind_config(m);
  bind_sampling(m);
  bind_statistics(m);
  m.def(
      "available_memory", [] { return available_memory(); },
      "Bytes that this process may still take, limits of its container included.");
  m.attr("FULL_ATTENTION") = engine::kFullAttention;

  nb::class_<Event>(m, "Event", "What a step did for one request.")
      .def_ro("request", &Event::request)
      .def_ro("token", &Event::token, "-1: none.")
      .def_ro("logprob", &Event::logprob, "Under softmax of the model's own logits.")
      .def_prop_ro(
          "top", [](const Event& event) { return pairs_of(event.top); }, "[(token, logprob)], the likeliest first.")
      .def_prop_ro(
          "finished", [](const Event& event) { return engine::name_of(event.finished); },
          "none, stop, length, context, aborted, failed or banned.")
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
          [](Engine& self, std::vector<std::int32_t> prompt, std::int64_t max_new_tokens,
             const SamplingParams& sampling, std::vector<std::int32_t> stop_tokens, int flow) {
            return self.submit({.prompt = std::move(prompt),
                                .max_new_tokens = max_new_tokens,
                                .sampling = sampling,
                                .stop_tokens = std::move(stop_tokens),
                                .flow = flow});
          },
          nb::arg("prompt"), nb::kw_only(), nb::arg("max_new_tokens") = 16, nb::arg("sampling") = SamplingParams(),
          nb::arg("stop_tokens") = std::vector<std::int32_t>(), nb::arg("flow") = engine::kFullAttention,
          "Queues a request and returns its number.")
      .def("fork", &Engine::fork, nb::arg("request"), nb::arg("sampling") = SamplingParams(),
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
