// The memory of the KV pool. One array a layer: [page, kv_head, {K, V}, token,
// dim], or [page, kv_head, token, dim] where values lie in the keys, in bf16; in int8 each page ends with the scales of
// its vectors, [kv_head, {K, V}, token]. Untouched pages cost no memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/types.h"
#include "kv/pool.h"

namespace vortex::engine {

class KvMemory {
 public:
  // MachineError when the memory is not there.
  KvMemory(const attention::Geometry&, std::int64_t pages);

  static std::int64_t page_bytes(const attention::Geometry&);  // of one physical page over all layers, scales and all
  std::int64_t bytes() const { return bytes_; }
  const std::vector<attention::KvView>& views() const { return views_; }  // [layers]
  std::int64_t layer_page_bytes() const { return page_bytes_; }           // of one page in one layer
  std::byte* page(std::int64_t layer, kv::Page);

  void copy(kv::Page from, kv::Page to);

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::int64_t layers_, page_bytes_, layer_bytes_, bytes_;
  std::unique_ptr<std::byte, Free> memory_;
  std::vector<attention::KvView> views_;
};

}  // namespace vortex::engine
