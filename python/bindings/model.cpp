// Models from Python: a config and named weights in, a model out. An array lives as long as the model uses it. `step`
// runs the model with attention written in Python, for tests and for research; serving goes through the engine.
#include "models/model.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <set>

#include "base/text.h"
#include "bindings/bindings.h"
#include "kernels/cpu/linear_pack.h"
#include "models/fp8.h"
#include "models/replay.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

using models::ModelConfig;
using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<nb::numpy, float>;

// A mapping of Python, asked for one weight at a time: {name: (format, raw rows, columns)}.
class PythonWeights final : public models::WeightSource {
 public:
  explicit PythonWeights(nb::object mapping) : mapping_(std::move(mapping)) {
    for (nb::handle name : mapping_) names_.insert(nb::cast<std::string>(name));
  }

  std::vector<std::string> names() const override { return {names_.begin(), names_.end()}; }

  std::optional<models::Weight> find(const std::string& name) const override {
    if (!names_.contains(name)) return std::nullopt;
    nb::gil_scoped_acquire locked;
    nb::object entry = mapping_[name.c_str()];
    auto [format_name, array, columns] = nb::cast<std::tuple<std::string, Bytes, std::int64_t>>(entry);
    kernels::WeightView view{.format = kernels::format_of(format_name),
                             .data = array.data(),
                             .rows = static_cast<std::int64_t>(array.shape(0)),
                             .columns = columns};
    if (std::int64_t needed = kernels::row_bytes(view.format, columns);
        needed != static_cast<std::int64_t>(array.shape(1)))
      throw UserError(concat("weight ", name), concat(needed, " bytes a row of ", columns, " weights in ", format_name),
                      concat("got an array [", view.rows, ", ", array.shape(1), "]"), "pass the rows as raw bytes");
    auto release = [](const Bytes* held) {
      nb::gil_scoped_acquire relocked;
      delete held;
    };
    return models::Weight{view, std::shared_ptr<const void>(std::shared_ptr<const Bytes>(new Bytes(array), release))};
  }

 private:
  nb::object mapping_;
  std::set<std::string> names_;
};

// A new array [shape...] holding a copy of the data.
Numbers copy_of(const float* data, std::initializer_list<std::size_t> shape) {
  std::size_t count = 1;
  for (std::size_t extent : shape) count *= extent;
  auto memory = std::make_unique<float[]>(count);
  std::memcpy(memory.get(), data, count * sizeof(float));
  nb::capsule owner(memory.get(), [](void* pointer) noexcept { delete[] static_cast<float*>(pointer); });
  return Numbers(memory.release(), shape, owner);
}

using Rows = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

std::vector<float> numbers_of(const Rows& rows) { return {rows.data(), rows.data() + rows.size()}; }

class PythonAttention final : public attention::LayerAttention {
 public:
  PythonAttention(const ModelConfig& config, std::size_t tokens, nb::callable attend)
      : tokens_(tokens), attend_(attend) {
    const attention::Geometry geometry = config.attention();
    heads_ = static_cast<std::size_t>(geometry.kv_heads * geometry.group);
    kv_heads_ = static_cast<std::size_t>(geometry.kv_heads);
    dim_ = static_cast<std::size_t>(geometry.head_dim);
    value_dim_ = static_cast<std::size_t>(geometry.value_channels());
    values_in_keys_ = geometry.values_in_keys;
  }

  void run(std::int32_t layer, const float* q, const float* k, const float* v, float* out) override {
    nb::object values = nb::none();
    if (!values_in_keys_) values = nb::cast(copy_of(v, {tokens_, kv_heads_, value_dim_}));
    nb::object result =
        attend_(layer, copy_of(q, {tokens_, heads_, dim_}), copy_of(k, {tokens_, kv_heads_, dim_}), values);
    using Result = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
    Result array;
    if (!nb::try_cast(result, array) || array.shape(0) != tokens_ || array.shape(1) != heads_ ||
        array.shape(2) != value_dim_)
      throw UserError(
          "attend", concat("a float32 array [", tokens_, ", ", heads_, ", ", value_dim_, "], one row a token and head"),
          concat("got ", nb::str(result.type().attr("__name__")).c_str()), "return what the heads attended to");
    std::memcpy(out, array.data(), array.nbytes());
  }

 private:
  std::size_t tokens_, heads_, kv_heads_, dim_, value_dim_;
  bool values_in_keys_;
  nb::callable attend_;
};

Numbers step(models::Model& model, const std::vector<std::int32_t>& token_ids,
             const std::vector<std::int32_t>& positions, nb::callable attend,
             const std::vector<std::int32_t>& logit_tokens, int threads) {
  const std::int64_t tokens = static_cast<std::int64_t>(token_ids.size()), vocabulary = model.config().vocabulary;
  if (token_ids.size() != positions.size())
    throw UserError("step", concat("a position for each of the ", tokens, " tokens"), concat("got ", positions.size()),
                    "");
  for (std::int32_t id : token_ids)
    if (id < 0 || id >= vocabulary)
      throw UserError("step", concat("token ids below ", vocabulary), concat("got ", id), "");
  for (std::int32_t row : logit_tokens)
    if (row < 0 || row >= tokens)
      throw UserError("step", concat("logit_tokens below ", tokens), concat("got ", row), "");
  std::vector<float> logits(logit_tokens.size() * static_cast<std::size_t>(vocabulary));
  PythonAttention attention(model.config(), token_ids.size(), attend);
  ThreadPool pool(threads);
  model.step({.tokens = tokens,
              .token_ids = token_ids.data(),
              .positions = positions.data(),
              .logit_rows = static_cast<std::int64_t>(logit_tokens.size()),
              .logit_tokens = logit_tokens.data(),
              .logits = logits.data()},
             attention, pool);
  return copy_of(logits.data(), {logit_tokens.size(), static_cast<std::size_t>(vocabulary)});
}

}  // namespace

void bind_model(nb::module_& m) {
  using attention::Geometry;
  nb::class_<Geometry>(m, "AttentionGeometry", "What attention is given and stores in one layer of a model.")
      .def_ro("layers", &Geometry::layers)
      .def_ro("kv_heads", &Geometry::kv_heads)
      .def_ro("group", &Geometry::group, "Query heads that share a KV head.")
      .def_ro("head_dim", &Geometry::head_dim, "Channels of q and of a key.")
      .def_prop_ro("value_dim", &Geometry::value_channels, "Channels of a value.")
      .def_ro("values_in_keys", &Geometry::values_in_keys, "A value is the first channels of its key.")
      .def_ro("scale", &Geometry::scale)
      .def_prop_ro("token_bytes", &Geometry::token_bytes, "Of one token and KV head, as stored.");

  nb::class_<ModelConfig>(m, "ModelConfig", "What the engine must know of a model.")
      .def(nb::init<>())
      .def_rw("architecture", &ModelConfig::architecture)
      .def_rw("layers", &ModelConfig::layers)
      .def_rw("width", &ModelConfig::width)
      .def_rw("ffn_width", &ModelConfig::ffn_width)
      .def_rw("heads", &ModelConfig::heads)
      .def_rw("kv_heads", &ModelConfig::kv_heads)
      .def_rw("head_dim", &ModelConfig::head_dim)
      .def_rw("vocabulary", &ModelConfig::vocabulary)
      .def_rw("context", &ModelConfig::context)
      .def_rw("rms_epsilon", &ModelConfig::rms_epsilon)
      .def_rw("rope_base", &ModelConfig::rope_base)
      .def_rw("tied_embeddings", &ModelConfig::tied_embeddings)
      .def_rw("rope_divisors", &ModelConfig::rope_divisors)
      .def_rw("rope_magnitude", &ModelConfig::rope_magnitude)
      .def_rw("experts", &ModelConfig::experts)
      .def_rw("experts_per_token", &ModelConfig::experts_per_token)
      .def_rw("expert_width", &ModelConfig::expert_width)
      .def_rw("normalise_experts", &ModelConfig::normalise_experts)
      .def_rw("kv_lora_rank", &ModelConfig::kv_lora_rank)
      .def_rw("qk_rope_dim", &ModelConfig::qk_rope_dim)
      .def_rw("value_dim", &ModelConfig::value_dim)
      .def_rw("q_lora_rank", &ModelConfig::q_lora_rank)
      .def_rw("attention_scale", &ModelConfig::attention_scale)
      .def("validate", &ModelConfig::validate)
      .def_prop_ro("attention", &ModelConfig::attention);

  m.def(
      "kv_token_bytes",
      [](std::int64_t head_dim, std::int64_t value_dim, bool values_in_keys, const std::string& kv_dtype) {
        return Geometry{.head_dim = head_dim,
                        .value_dim = value_dim,
                        .values_in_keys = values_in_keys,
                        .kv_type = attention::kv_type_of(kv_dtype)}
            .token_bytes();
      },
      nb::arg("head_dim"), nb::arg("value_dim") = 0, nb::arg("values_in_keys") = false, nb::arg("kv_dtype") = "bf16",
      "Bytes of the K and V of one token and KV head, scales included.");

  nb::class_<models::Model>(m, "Model", "One architecture with its weights.")
      .def_prop_ro("config", &models::Model::config)
      .def_prop_ro(
          "device",
          [](const models::Model& model) { return model.device() ? model.device()->describe() : std::string("cpu"); },
          "Where its weights lie.")
      .def_prop_ro("weight_bytes", &models::Model::weight_bytes, "Bytes of weights one decode step reads.")
      .def("step", &step, nb::arg("token_ids"), nb::arg("positions"), nb::arg("attend"), nb::arg("logit_tokens"),
           nb::arg("threads") = 1,
           "Runs a step with attention written in Python: attend(layer, q, k, v) returns [tokens, heads, value_dim]; q "
           "and k "
           "come after RoPE, q unscaled. Returns the logits [logit_tokens, vocabulary].");

  m.def(
      "make_model",
      [](const ModelConfig& config, nb::object weights, int threads,
         const std::string& device) -> std::shared_ptr<models::Model> {
        PythonWeights source(std::move(weights));
        nb::gil_scoped_release unlocked;
        ThreadPool pool(threads);
        const device::Kind kind = device::kind_of(device);
        return models::make_model(config, source, pool, kind == device::Kind::cpu ? nullptr : device::open(kind));
      },
      nb::arg("config"), nb::arg("weights"), nb::arg("threads") = 0, nb::arg("device") = "cpu",
      "A model from a mapping {name: (format, uint8 array [rows, bytes of a row], columns)}, asked for one weight at a "
      "time; a vector is one row.");
  m.def(
      "replay_model",
      [](const ModelConfig& config, const Rows& q, const Rows& k,
         std::optional<Rows> v) -> std::shared_ptr<models::Model> {
        return models::make_replay(config, {.rows = static_cast<std::int64_t>(q.shape(0)),
                                            .q = numbers_of(q),
                                            .k = numbers_of(k),
                                            .v = v ? numbers_of(*v) : std::vector<float>()});
      },
      nb::arg("config"), nb::arg("q"), nb::arg("k"), nb::arg("v").none() = nb::none(),
      "A model of the config's geometry that replays recorded rows: its tokens are their numbers, its logits the "
      "outputs "
      "of attention [layers, heads, value_dim], then zeros. float32 q [rows, layers, heads, head_dim], k [rows, "
      "layers, "
      "kv_heads, head_dim], v [rows, layers, kv_heads, value_dim], None where values lie in the keys.");
  m.def(
      "row_bytes",
      [](const std::string& format, std::int64_t columns) {
        return kernels::row_bytes(kernels::format_of(format), columns);
      },
      nb::arg("format"), nb::arg("columns"), "Bytes of one row of weights in a format.");
  m.def(
      "packed_bytes",
      [](const std::string& format, std::int64_t rows, std::int64_t columns) {
        return (rows + 15) / 16 * kernels::detail::panel_bytes(kernels::format_of(format), columns);
      },
      nb::arg("format"), nb::arg("rows"), nb::arg("columns"), "Bytes of a matrix once it is packed for the linears.");
  m.def(
      "required_weights",
      [](const ModelConfig& config) {
        constexpr const char* kUses[] = {"linear", "vector", "in_place"};
        std::vector<std::tuple<std::string, std::int64_t, std::int64_t, std::string>> all;
        for (const models::RequiredWeight& it : models::required_weights(config))
          all.emplace_back(it.name, it.rows, it.columns, kUses[static_cast<int>(it.use)]);
        return all;
      },
      nb::arg("config"),
      "What the architecture asks for: (name, rows, columns, use), use being linear (repacked), vector (made float) or "
      "in_place (read where it lies).");
  m.def(
      "fp8_rows",
      [](Bytes rows, nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu> scales,
         std::int64_t block_rows, std::int64_t block_columns) {
        const std::size_t count = rows.shape(0), columns = rows.shape(1);
        auto memory = std::make_unique<std::uint8_t[]>(std::max<std::size_t>(1, 2 * count * columns));
        {
          nb::gil_scoped_release unlocked;
          models::fp8_to_bfloat16({.data = rows.data(),
                                   .rows = static_cast<std::int64_t>(count),
                                   .columns = static_cast<std::int64_t>(columns),
                                   .scales = scales.data(),
                                   .scale_rows = static_cast<std::int64_t>(scales.shape(0)),
                                   .scale_columns = static_cast<std::int64_t>(scales.shape(1)),
                                   .block_rows = block_rows,
                                   .block_columns = block_columns},
                                  reinterpret_cast<BFloat16*>(memory.get()));
        }
        nb::capsule owner(memory.get(), [](void* pointer) noexcept { delete[] static_cast<std::uint8_t*>(pointer); });
        return nb::ndarray<nb::numpy, std::uint8_t>(memory.release(), {count, 2 * columns}, owner);
      },
      nb::arg("rows"), nb::arg("scales"), nb::arg("block_rows"), nb::arg("block_columns"),
      "fp8 (e4m3) weights [rows, columns] times the scales of their blocks, as the bytes of bfloat16 rows.");
  m.def("architectures", &models::architectures, "The architectures there are.");
}

}  // namespace vortex::python
