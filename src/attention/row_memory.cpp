#include "attention/row_memory.h"

#include <algorithm>

#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::attention {

CarriedLayout carried_by(const LoadedFlow& loaded, const Geometry& geometry) {
  CarriedLayout out{geometry.layers, geometry.kv_heads, loaded.config.page_size, loaded.config.refresh_every > 1, {}};
  const std::span<const codegen::StateLayout> states = loaded.all_states();
  out.states.assign(states.begin(), states.end());
  return out;
}

std::int64_t CarriedLayout::bytes_for(std::int64_t tokens) const {
  const std::int64_t rows = layers * kv_heads, pages = ceil_div(std::max<std::int64_t>(tokens, 1), page_size);
  std::int64_t bytes = sets ? ((device == nullptr ? rows * (pages + 1) : 0) + layers) * 4 : 0;
  for (const codegen::StateLayout& state : states)
    bytes += 2 * rows * state.elements * (state.of_pages ? pages : 1) * 4;
  return bytes;
}

void RowMemory::reserve(const CarriedLayout& layout, std::int64_t tokens) {
  const std::int64_t pages = ceil_div(std::max<std::int64_t>(tokens, 1), layout.page_size);
  if (!layout.any()) return;
  if (pages <= room_) {
    if (!numbers_) to_device(layout);  // it had left
    return;
  }
  leave_device();
  VORTEX_CHECK(room_ == 0 || (layers_ == layout.layers && kv_heads_ == layout.kv_heads), "memory of ", layers_,
               " layers and ", kv_heads_, " KV heads");
  // All that may find no memory comes first: then nothing has changed, and it can be asked for again.
  RowMemory larger;
  larger.layers_ = layout.layers, larger.kv_heads_ = layout.kv_heads, larger.room_ = pages;
  const std::size_t rows = static_cast<std::size_t>(larger.layers_ * larger.kv_heads_);
  larger.kept_pages_ = kept_pages_;
  if (layout.sets) larger.kept_pages_.resize(static_cast<std::size_t>(larger.layers_));
  if (layout.sets && layout.device == nullptr) {
    larger.counts_ = counts_;
    larger.counts_.resize(rows);
    larger.lists_.resize(rows * static_cast<std::size_t>(pages));
    for (std::size_t row = 0; row < rows; ++row)
      std::copy_n(lists_.begin() + static_cast<std::ptrdiff_t>(row) * room_, larger.counts_[row],
                  larger.lists_.begin() + static_cast<std::ptrdiff_t>(row) * pages);
  }
  const std::vector<codegen::StateLayout>& layouts = layout.states;
  for (std::size_t s = 0; s < layouts.size(); ++s) {
    State& state = larger.states_.emplace_back(State{layouts[s].elements, layouts[s].of_pages, {}});
    if (room_ > 0 && !state.of_pages) {
      state.numbers = states_[s].numbers;
      continue;
    }
    state.numbers.assign(larger.floats_of(state), layouts[s].initial);
    const std::size_t runs = 2 * rows * static_cast<std::size_t>(state.elements);
    for (std::size_t run = 0; room_ > 0 && run < runs; ++run)
      std::copy_n(states_[s].numbers.begin() + static_cast<std::ptrdiff_t>(run) * room_, room_,
                  state.numbers.begin() + static_cast<std::ptrdiff_t>(run) * pages);
  }
  larger.to_device(layout);
  *this = std::move(larger);
}

std::size_t RowMemory::floats_of(const State& state) const {
  return static_cast<std::size_t>(2 * layers_ * kv_heads_ * state.elements * (state.of_pages ? room_ : 1));
}

void RowMemory::to_device(const CarriedLayout& layout) {
  if (layout.device == nullptr || states_.empty()) return;
  std::vector<float> all;
  for (const State& state : states_) all.insert(all.end(), state.numbers.begin(), state.numbers.end());
  numbers_ = {layout.device, all};
  for (State& state : states_) state.numbers = {};
}

void RowMemory::leave_device() {
  if (!numbers_) return;
  const std::vector<float> all = numbers_.download();
  auto from = all.begin();
  for (State& state : states_) {
    const auto end = from + static_cast<std::ptrdiff_t>(floats_of(state));
    state.numbers.assign(from, end);
    from = end;
  }
  numbers_ = {};
}

void RowMemory::forget(const CarriedLayout& layout) {
  std::fill(kept_pages_.begin(), kept_pages_.end(), 0);
  for (std::size_t s = 0; s < states_.size(); ++s)
    states_[s].numbers.assign(floats_of(states_[s]), layout.states[s].initial);
  to_device(layout);
}

codegen::StateView RowMemory::state(std::int64_t index, std::int64_t layer, std::int64_t head, std::int64_t step,
                                    std::int64_t first) {
  State& state = states_[static_cast<std::size_t>(index)];
  const std::int64_t stride = state.of_pages ? room_ : 1, row_floats = state.elements * stride;
  const std::int64_t half = layers_ * kv_heads_ * row_floats;
  float* row = state.numbers.data() + (layer * kv_heads_ + head) * row_floats + (state.of_pages ? first : 0);
  return {row + step % 2 * half, row + (step + 1) % 2 * half, stride};
}

std::int64_t RowMemory::bytes() const {
  std::size_t numbers = lists_.size() + counts_.size() + kept_pages_.size();
  for (const State& state : states_) numbers += state.numbers.size();
  return static_cast<std::int64_t>(numbers * 4) + numbers_.bytes();
}

std::span<const std::int32_t> RowMemory::kept(std::int64_t layer, std::int64_t head) const {
  return {lists_.data() + row(layer, head) * static_cast<std::size_t>(room_),
          static_cast<std::size_t>(counts_[row(layer, head)])};
}

void RowMemory::keep(std::int64_t layer, std::int64_t head, std::span<const std::int32_t> list) {
  VORTEX_CHECK(static_cast<std::int64_t>(list.size()) <= room_, list.size(), " pages in room for ", room_);
  std::copy(list.begin(), list.end(), lists_.begin() + static_cast<std::ptrdiff_t>(row(layer, head)) * room_);
  counts_[row(layer, head)] = static_cast<std::int32_t>(list.size());
}

}  // namespace vortex::attention
