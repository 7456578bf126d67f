// Cuts the linears of a layer into equal parts, sizes the rings and launches the kernel.
#include "kernels/cuda/layer_linears.h"

#include <algorithm>

#include "base/check.h"
#include "base/text.h"
#include "kernels/cuda/linear_text.h"

namespace vortex::kernels {

namespace {

constexpr int kMostRows = 64, kUnitBytes = 64 * 128, kThreads = 512;
constexpr int kShared = 227 * 1024 - 6 * 1024;  // a block's, less what barriers and factors take
constexpr int kGateUp = 1;

struct Widths {
  std::int64_t in, out;
};
std::array<Widths, 4> widths_of(const LayerLinearsShape& s) {
  return {{{s.q_width, s.width}, {s.width, 2 * s.ffn_width}, {s.ffn_width, s.width}, {s.width, s.qkv_width}}};
}

bool can_cut(const Widths& w, int linear, int pack, int tile, int split, int cluster, int blocks) {
  if (w.in % 64 != 0 || w.out % tile != 0 || pack <= 0 || pack % 64 != 0 || w.out % pack != 0) return false;
  if (cluster % split != 0 || w.in / 64 % split != 0 || w.out / tile * split > blocks) return false;
  return tile % split == 0 && tile / split % (linear == kGateUp ? 32 : 16) == 0;
}

}  // namespace

std::optional<LayerLinearsShape> LayerLinears::resolve(const LayerLinearsShape& asked, int multiprocessors) {
  if (asked.rows <= 0 || asked.rows % 8 != 0 || asked.rows > kMostRows) return std::nullopt;
  LayerLinearsShape out = asked;
  if (out.cluster == 0) out.cluster = 2;  // larger ones leave multiprocessors of an H200 without work
  const int room = multiprocessors / out.cluster * out.cluster;
  const auto widths = widths_of(asked);
  out.blocks = out.sums = 0;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    // As many blocks as there are; of those the cuts whose blocks read the least activations.
    double best = 0;
    for (const int tile : {64, 128, 192}) {
      if (asked.tiles[i] != 0 && asked.tiles[i] != tile) continue;
      for (const int split : {1, 2, 4, 8}) {
        if (asked.splits[i] != 0 && asked.splits[i] != split) continue;
        if (!can_cut(widths[i], static_cast<int>(i), asked.packs[i], tile, split, out.cluster, room)) continue;
        const double use = static_cast<double>(widths[i].out / tile * split) / room + 0.001 * tile;
        if (use > best) best = use, out.tiles[i] = tile, out.splits[i] = split;
      }
    }
    if (best == 0) return std::nullopt;
    const int blocks = static_cast<int>(widths[i].out) / out.tiles[i] * out.splits[i];
    if (blocks < multiprocessors * 9 / 20) return std::nullopt;  // too few to read at full rate
    out.blocks = std::max(out.blocks, (blocks + out.cluster - 1) / out.cluster * out.cluster);
    const int stride = (out.rows + 5) / 16 * 16 + 10;  // as in the kernel
    out.sums = std::max(out.sums, 192 / out.tiles[i] * out.tiles[i] * stride);
  }
  const int stage_bytes = out.rows * 128;
  // Places that the groups of workers take in turns: always the same of them in the same place, see the kernel.
  if (out.stages == 0) out.stages = std::clamp(40 * 1024 / stage_bytes, 6, 15) / 3 * 3;
  if (out.units == 0) out.units = (kShared - out.stages * stage_bytes - out.sums * 4) / kUnitBytes / 6 * 6;
  return out.units >= 12 ? std::optional(out) : std::nullopt;
}

device::Source LayerLinears::source(const LayerLinearsShape& s) {
  std::vector<std::string> cuts;
  const auto widths = widths_of(s);
  for (std::size_t i = 0; i < widths.size(); ++i)
    cuts.push_back(
        concat("{", widths[i].in, ", ", widths[i].out, ", ", s.tiles[i], ", ", s.splits[i], ", ", s.packs[i], "}"));
  return {
      .name = "layer_linears",
      .text = concat("#define LAYER_ROWS ", s.rows, "\n#define LAYER_CLUSTER ", s.cluster, "\n#define LAYER_BLOCKS ",
                     s.blocks, "\n#define LAYER_UNITS ", s.units, "\n#define LAYER_STAGES ", s.stages,
                     "\n#define LAYER_WINDOW ", s.window, "\n#define LAYER_SUMS ", s.sums, "\n#define LAYER_LINEARS ",
                     join(cuts, ", "), "\nnamespace vortex::cuda {\n", print_instruction(s.rows),
                     "}\n#include \"kernels/cuda/layer_linears.cuh\"\n"),
      .headers = linear_headers(
          {"kernels/cuda/layer_linears_arguments.h", "kernels/cuda/operand.cuh", "kernels/cuda/layer_linears.cuh"}),
      .kernels = {"layer_linears"}};
}

namespace {
unsigned shared_bytes(const LayerLinearsShape& s) {
  return static_cast<unsigned>(s.units * kUnitBytes + s.stages * s.rows * 128 + s.sums * 4 + 1024);
}
}  // namespace

LayerLinears::LayerLinears(device::Device& device, const LayerLinearsShape& shape)
    : shape_(shape), module_(device.load(source(shape_))) {}

std::unique_ptr<LayerLinears> LayerLinears::make(device::Device& device, const LayerLinearsShape& asked) {
  const bool real = device.kind() == device::Kind::cuda;
  if (real && device.architecture() != "sm_90a") return nullptr;
  const auto shape = resolve(asked, real ? device.multiprocessors() : 132);
  if (!shape) return nullptr;
  std::unique_ptr<LayerLinears> out(new LayerLinears(device, *shape));
  const int at_once =
      device.clusters_at_once(out->module_->kernel("layer_linears"), {kThreads}, shared_bytes(*shape), shape->cluster);
  if (at_once * shape->cluster < shape->blocks) return nullptr;
  return out;
}

int LayerLinears::parts() const { return static_cast<int>(shape_.width) / 16; }

std::int64_t LayerLinears::weight_bytes() const {
  std::int64_t out = 0;
  for (const Widths& w : widths_of(shape_)) out += 2 * w.in * w.out;
  return out;
}

std::string LayerLinears::describe() const {
  std::string out = concat("layer of ", shape_.blocks, " blocks in clusters of ", shape_.cluster, ", rings of ",
                           shape_.units, " and ", shape_.stages, ":");
  for (std::size_t i = 0; i < 4; ++i) out += concat(" ", shape_.tiles[i], "/", shape_.splits[i]);
  return out;
}

void LayerLinears::run(device::Stream& stream, const cuda::LayerLinearsArguments& a) const {
  VORTEX_CHECK(a.count > 0 && a.count <= shape_.rows, "count ", a.count, " of ", shape_.rows, " rows");
  stream.launch(module_->kernel("layer_linears"), {static_cast<unsigned>(shape_.blocks)}, {kThreads}, a,
                shared_bytes(shape_), shape_.start);
}

}  // namespace vortex::kernels
