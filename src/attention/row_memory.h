// What the rows of one sequence carry from decode step to decode step under its flow: its state, and the sets they keep
// until they are chosen anew (refresh_every). State is held twice, as it is in the steps of even and of odd numbers: a
// step reads one and writes the other, so that one that failed can be made again. Memory that belongs to the sequence,
// of the host or, where steps run on a device, its state of that: a fork copies it, a preemption keeps it in the
// host's, shared pages and their eviction do not touch it. Knows no pool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/device_numbers.h"
#include "attention/types.h"

namespace vortex::attention {

// What a flow's rows carry.
struct CarriedLayout {
  std::int64_t layers = 0, kv_heads = 0, page_size = 1;  // page_size: of the flow
  bool sets =
      false;  // in the host's memory; a device has lists as a state, and the host only how many pages there were
  std::vector<codegen::StateLayout> states = {};
  std::shared_ptr<device::Device> device = nullptr;  // whose memory holds the states; null: the host's

  bool any() const { return sets || !states.empty(); }
  std::int64_t bytes_for(std::int64_t tokens) const;  // of a sequence of so many tokens
};
CarriedLayout carried_by(const LoadedFlow&, const Geometry&);

class RowMemory {
 public:
  // Room for a sequence of so many tokens; what is carried stays. At the first call nothing is carried.
  void reserve(const CarriedLayout&, std::int64_t tokens);
  // As at the beginning: nothing is carried.
  void forget(const CarriedLayout&);
  // What a device holds goes to the host, until `reserve` brings it back.
  void leave_device();

  std::int64_t bytes() const;
  std::int64_t room() const { return room_; }  // pages of the flow

  // A state in the step of this number, its candidates counted from page `first`.
  codegen::StateView state(std::int64_t index, std::int64_t layer, std::int64_t head, std::int64_t step,
                           std::int64_t first);

  // Where the device has the states, one after another, each [2, layers, kv_heads, elements, room], without room where
  // it is of the sequence; null: it has none.
  float* on_device() const { return numbers_.data(); }

  // The pages a sequence had when the sets of a layer were chosen; 0: none are kept.
  std::int32_t kept_pages(std::int64_t layer) const {
    return kept_pages_.empty() ? 0 : kept_pages_[static_cast<std::size_t>(layer)];
  }
  void keep_pages(std::int64_t layer, std::int32_t pages) { kept_pages_[static_cast<std::size_t>(layer)] = pages; }
  std::span<const std::int32_t> kept(std::int64_t layer, std::int64_t head) const;
  void keep(std::int64_t layer, std::int64_t head, std::span<const std::int32_t> list);

 private:
  std::size_t row(std::int64_t layer, std::int64_t head) const {
    return static_cast<std::size_t>(layer * kv_heads_ + head);
  }

  std::int64_t layers_ = 0, kv_heads_ = 0, room_ = 0;
  std::vector<std::int32_t> lists_;       // [layers, kv_heads, room]
  std::vector<std::int32_t> counts_;      // [layers, kv_heads]
  std::vector<std::int32_t> kept_pages_;  // [layers]
  struct State {
    std::int64_t elements = 0;
    bool of_pages = true;
    std::vector<float> numbers;  // [2, layers, kv_heads, elements, room], or without room; empty: the device has them
  };
  std::size_t floats_of(const State&) const;
  void to_device(const CarriedLayout&);
  std::vector<State> states_;
  DeviceNumbers numbers_;
};

}  // namespace vortex::attention
