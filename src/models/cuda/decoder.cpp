#include "models/cuda/decoder.h"

#include <vortex/error.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/float16.h"
#include "models/cuda/packer.h"
#include "models/decoder.h"

namespace vortex::models {

using device::Array;
using kernels::Epilogue;
using kernels::LinearShape;
using kernels::StreamedLinear;
constexpr int kPackedRows = StreamedLinear::kPackedRows;

namespace {

// The shapes of a decoder's linears but for rows; the order of `Linears`.
struct Shapes {
  LinearShape qkv, output, gate_up, down, head;

  explicit Shapes(const ModelConfig& c) {
    const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    qkv = {.epilogue = Epilogue::plain, .in = c.width, .out = q + 2 * kv};
    output = {.epilogue = Epilogue::residual, .in = q, .out = c.width};
    gate_up = {.epilogue = Epilogue::swiglu, .in = c.width, .out = 2 * c.ffn_width};
    down = {.epilogue = Epilogue::residual, .in = c.ffn_width, .out = c.width};
    head = {.epilogue = Epilogue::likeliest, .in = c.width, .out = c.vocabulary};
  }
};

std::int64_t blocks_of(std::int64_t tokens) { return (tokens + CudaDecoder::kMostRows - 1) / CudaDecoder::kMostRows; }

}  // namespace

struct CudaDecoder::Linears {
  std::unique_ptr<StreamedLinear> qkv, output, gate_up, down, head;
};

struct CudaDecoder::Weights {
  struct Layer {
    Array<unsigned short> qkv, output, gate_up, down;
    Array<float> attention_norm, feed_forward_norm, bias, q_norm, k_norm;
  };
  std::vector<Layer> layers;
  Array<unsigned short> head, embeddings;  // embeddings: none where the head's are they
  Array<float> final_norm;
};

struct CudaDecoder::Buffers {
  int tokens = 0, positions = 0;
  Array<float> residual, squares, qkv, rotation, head_squares, logits, best;
  Array<unsigned short> operand, attended, hidden, head_operand;
  Array<int> best_channel;
  Array<cuda::ChosenToken> chosen;
  std::int64_t parts = 1;  // of squares, a block
};

CudaDecoder::CudaDecoder(const ModelConfig& config, const WeightSource& source, ThreadPool& pool,
                         std::shared_ptr<device::Device> device, GroupedQueryOptions options)
    : config_(config),
      device_(std::move(device)),
      options_(options),
      helpers_(*device_),
      kernels_(*device_),
      weights_(std::make_unique<Weights>()),
      buffers_(std::make_unique<Buffers>()),
      given_(device_->make_event()) {
  const ModelConfig& c = config_;
  Weights& w = *weights_;
  prepare(kMostRows);  // says early what the device does not serve

  WeightReader read(source, pool);
  WeightPacker packer(device_, kernels_, pool);
  const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    return read.matrix(name + ".weight", rows, columns, RequiredWeight::Use::linear);
  };
  const auto vector = [&](const std::string& name, std::int64_t size) {
    return packer.upload(read.vector(name, size));
  };
  if (!c.tied_embeddings) {
    w.embeddings = packer.reserve(c.vocabulary, c.width, kPackedRows);
    packer.pack(matrix("model.embed_tokens", c.vocabulary, c.width).view, w.embeddings, kPackedRows);
  }
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = concat("model.layers.", i, "."), attention = layer + "self_attn.", mlp = layer + "mlp.";
    Weights::Layer& to = w.layers.emplace_back();
    to.attention_norm = vector(layer + "input_layernorm.weight", c.width);
    to.feed_forward_norm = vector(layer + "post_attention_layernorm.weight", c.width);
    to.qkv = packer.reserve(q + 2 * kv, c.width, kPackedRows);
    packer.pack(matrix(attention + "q_proj", q, c.width).view, to.qkv, kPackedRows);
    packer.pack(matrix(attention + "k_proj", kv, c.width).view, to.qkv, kPackedRows, q);
    packer.pack(matrix(attention + "v_proj", kv, c.width).view, to.qkv, kPackedRows, q + kv);
    if (options_.qkv_bias) {
      std::vector<float> bias = read.vector(attention + "q_proj.bias", q);
      for (const char* name : {"k_proj.bias", "v_proj.bias"}) {
        const std::vector<float> more = read.vector(attention + name, kv);
        bias.insert(bias.end(), more.begin(), more.end());
      }
      to.bias = packer.upload(bias);
    }
    if (options_.qk_norm) {
      to.q_norm = vector(attention + "q_norm.weight", c.head_dim);
      to.k_norm = vector(attention + "k_norm.weight", c.head_dim);
    }
    to.output = packer.reserve(c.width, q, kPackedRows);
    packer.pack(matrix(attention + "o_proj", c.width, q).view, to.output, kPackedRows);
    to.gate_up = packer.reserve(2 * c.ffn_width, c.width, kPackedRows);
    packer.pack(matrix(mlp + "gate_proj", c.ffn_width, c.width).view, to.gate_up, kPackedRows, 0, true);
    packer.pack(matrix(mlp + "up_proj", c.ffn_width, c.width).view, to.gate_up, kPackedRows, 8, true);
    to.down = packer.reserve(c.width, c.ffn_width, kPackedRows);
    packer.pack(matrix(mlp + "down_proj", c.width, c.ffn_width).view, to.down, kPackedRows);
  }
  w.final_norm = vector("model.norm.weight", c.width);
  w.head = packer.reserve(c.vocabulary, c.width, kPackedRows);
  packer.pack(matrix(c.tied_embeddings ? "model.embed_tokens" : "lm_head", c.vocabulary, c.width).view, w.head,
              kPackedRows);
  read.finish(c.architecture);
}

CudaDecoder::~CudaDecoder() = default;

std::int64_t CudaDecoder::weight_bytes() const {
  const ModelConfig& c = config_;
  const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  return 2 * (c.layers * (c.width * (2 * q + 2 * kv) + 3 * c.width * c.ffn_width) + c.vocabulary * c.width);
}

void CudaDecoder::step(const StepInput&, attention::LayerAttention&, ThreadPool&) {
  throw UserError("model", "a model on the cpu for a step with attention on the cpu",
                  concat("one on ", device_->describe()),
                  "run it in an Engine or a Workbench, or load it with device cpu");
}

const CudaDecoder::Linears& CudaDecoder::linears(int rows) {
  VORTEX_CHECK(rows > 0 && rows <= kMostRows && rows % 8 == 0, rows, " rows");
  std::unique_ptr<Linears>& out = linears_[rows];
  if (out != nullptr) return *out;
  const Shapes shapes(config_);
  auto made = std::make_unique<Linears>();
  const auto make = [&](LinearShape shape) {
    shape.rows = rows;
    return std::make_unique<StreamedLinear>(*device_, shape);
  };
  made->qkv = make(shapes.qkv), made->output = make(shapes.output), made->gate_up = make(shapes.gate_up);
  made->down = make(shapes.down), made->head = make(shapes.head);
  out = std::move(made);
  return *out;
}

void CudaDecoder::prepare(int rows) { linears(rows); }

void CudaDecoder::take(device::Stream& stream) { stream.wait(*given_); }

void CudaDecoder::give(device::Stream& stream) { stream.record(*given_); }

void CudaDecoder::reserve(int tokens, int positions) {
  const ModelConfig& c = config_;
  Buffers& b = *buffers_;
  const auto stream = device_->make_stream();
  if (positions > b.positions) {
    ++generation_;
    const std::vector<float> frequencies = rope_frequencies(c, c.head_dim);
    std::vector<float> turns;
    turns.reserve(static_cast<std::size_t>(positions) * frequencies.size() * 2);
    for (int position = 0; position < positions; ++position)
      for (const float frequency : frequencies) {
        const double angle = static_cast<double>(position) * static_cast<double>(frequency);
        turns.push_back(static_cast<float>(std::cos(angle)) * c.rope_magnitude);
        turns.push_back(static_cast<float>(std::sin(angle)) * c.rope_magnitude);
      }
    b.rotation = device::upload(device_, *stream, turns);
    b.positions = positions;
  }
  if (tokens <= b.tokens) return;
  ++generation_;
  const std::int64_t blocks = blocks_of(tokens), before = blocks_of(b.tokens);
  b.tokens = 0;  // for as long as they are not there
  try {
    make_buffers(*stream, blocks);
  } catch (...) {  // whoever walks in the smaller ones already goes on
    if (before > 0) make_buffers(*stream, before);
    throw;
  }
}

void CudaDecoder::make_buffers(device::Stream& stream, std::int64_t blocks) {
  const ModelConfig& c = config_;
  Buffers& b = *buffers_;
  const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, n = blocks * kMostRows;
  const auto make = [&](auto& array, std::int64_t count) {
    array = {};  // what was there is free for the other one
    array = std::remove_reference_t<decltype(array)>(device_, count);
    array.fill(stream, 0);
  };
  b.parts = c.width / kPackedRows;
  make(b.residual, n * c.width), make(b.squares, blocks * b.parts * kMostRows), make(b.qkv, n * (q + 2 * kv));
  make(b.operand, n * c.width), make(b.attended, n * q), make(b.hidden, n * c.ffn_width);
  if (b.best_channel.data() == nullptr) {
    const std::int64_t most_blocks = (c.vocabulary + 63) / 64;  // of the head's grid
    make(b.head_operand, kMostRows * c.width), make(b.head_squares, kMostRows);
    make(b.logits, kMostRows * c.vocabulary), make(b.chosen, kMostRows);
    make(b.best, most_blocks * kMostRows), make(b.best_channel, most_blocks * kMostRows);
  }
  stream.synchronize();
  b.tokens = static_cast<int>(n);
}

float* CudaDecoder::logits() const { return buffers_->logits.data(); }
cuda::ChosenToken* CudaDecoder::chosen() const { return buffers_->chosen.data(); }

void CudaDecoder::walk(device::Stream& stream, const CudaWalk& in, attention::CudaLayerAttention& attention) {
  const ModelConfig& c = config_;
  const Linears& l = linears(in.rows);
  const Weights& w = *weights_;
  Buffers& b = *buffers_;
  const int blocks = (in.count + in.rows - 1) / in.rows;
  VORTEX_CHECK(in.count > 0 && in.count <= b.tokens && in.logit_rows <= kMostRows, in.count, " tokens, ", in.logit_rows,
               " logits, room for ", b.tokens);
  VORTEX_CHECK(in.logit_tokens != nullptr || in.logit_rows == 0 || (blocks == 1 && in.logit_rows == in.count),
               in.logit_rows, " logits of ", in.count, " tokens in ", blocks, " blocks");
  const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, qkv = q + 2 * kv;

  // What every linear is given of a block; `parts` of squares: those that made its operand.
  const auto arguments = [&](int block, int parts) {
    cuda::StreamedLinearArguments a{};
    const std::int64_t first = static_cast<std::int64_t>(block) * in.rows;
    a.count = static_cast<int>(std::min<std::int64_t>(in.rows, in.count - first));
    a.epsilon = c.rms_epsilon, a.width = static_cast<float>(c.width), a.parts = parts;
    a.squares = a.squares_out = b.squares.data() + block * b.parts * in.rows;
    a.residual = b.residual.data() + first * c.width;
    return a;
  };
  const auto at = [&](const Array<unsigned short>& array, int block, std::int64_t width) {
    return array.data() + static_cast<std::int64_t>(block) * in.rows * width;
  };

  for (int block = 0; block < blocks; ++block) {
    const auto a = arguments(block, 0);
    helpers_.embed(stream,
                   {(c.tied_embeddings ? w.head : w.embeddings).data(), in.tokens + block * in.rows,
                    w.layers[0].attention_norm.data(), a.residual, at(b.operand, block, c.width), a.squares_out,
                    static_cast<int>(c.width), kPackedRows, in.rows},
                   a.count);
  }
  for (std::size_t i = 0; i < w.layers.size(); ++i) {
    const Weights::Layer& layer = w.layers[i];
    const float* next_norm = i + 1 < w.layers.size() ? w.layers[i + 1].attention_norm.data() : w.final_norm.data();
    for (int block = 0; block < blocks; ++block) {
      auto a = arguments(block, i == 0 ? 1 : l.down->parts());
      a.weight = layer.qkv.data(), a.x = at(b.operand, block, c.width);
      a.out = b.qkv.data() + static_cast<std::int64_t>(block) * in.rows * qkv;
      l.qkv->run(stream, a);
    }
    attention.run(stream, {.layer = static_cast<int>(i),
                           .qkv = b.qkv.data(),
                           .stride = qkv,
                           .bias = layer.bias.data(),
                           .q_norm = layer.q_norm.data(),
                           .k_norm = layer.k_norm.data(),
                           .rotation = b.rotation.data(),
                           .epsilon = c.rms_epsilon,
                           .operand = b.attended.data(),
                           .operand_rows = in.rows});
    for (int block = 0; block < blocks; ++block) {
      auto a = arguments(block, 0);
      a.weight = layer.output.data(), a.x = at(b.attended, block, q), a.norm = layer.feed_forward_norm.data();
      a.operand = at(b.operand, block, c.width);
      l.output->run(stream, a);
    }
    for (int block = 0; block < blocks; ++block) {
      auto a = arguments(block, l.output->parts());
      a.weight = layer.gate_up.data(), a.x = at(b.operand, block, c.width),
      a.operand = at(b.hidden, block, c.ffn_width);
      l.gate_up->run(stream, a);
    }
    for (int block = 0; block < blocks; ++block) {
      auto a = arguments(block, 0);
      a.weight = layer.down.data(), a.x = at(b.hidden, block, c.ffn_width), a.norm = next_norm;
      a.operand = at(b.operand, block, c.width);
      l.down->run(stream, a);
    }
  }
  if (in.logit_rows == 0) return;
  if (in.logit_tokens == nullptr) {
    head(stream, b.operand.data(), b.squares.data(), l.down->parts(), in.rows, in.count, in.draws);
    return;
  }
  const int rows = std::max(in.head_rows, (in.logit_rows + 7) / 8 * 8);
  kernels_.gather(stream,
                  {b.residual.data(), in.logit_tokens, w.final_norm.data(), b.head_operand.data(),
                   b.head_squares.data(), static_cast<int>(c.width), rows},
                  in.logit_rows);
  head(stream, b.head_operand.data(), b.head_squares.data(), 1, rows, in.logit_rows, in.draws);
}

void CudaDecoder::head(device::Stream& stream, const unsigned short* operand, const float* squares, int parts, int rows,
                       int count, const cuda::Draw* draws) {
  const ModelConfig& c = config_;
  Buffers& b = *buffers_;
  const StreamedLinear& linear = *linears(rows).head;
  cuda::StreamedLinearArguments a{};
  a.count = count, a.epsilon = c.rms_epsilon, a.width = static_cast<float>(c.width), a.squares = squares,
  a.parts = parts;
  a.weight = weights_->head.data(), a.x = operand;
  a.best = b.best.data(), a.best_channel = b.best_channel.data(), a.out = b.logits.data();
  linear.run(stream, a);
  kernels_.choose(stream, {b.logits.data(), c.vocabulary, static_cast<int>(c.vocabulary), b.chosen.data()}, count);
  if (draws != nullptr)
    kernels_.draw(stream, {b.logits.data(), c.vocabulary, static_cast<int>(c.vocabulary), draws, b.chosen.data()},
                  count);
}

}  // namespace vortex::models
