// Names and ranges of the words of the room.
#include "attention/types.h"

#include <vortex/error.h>

#include <vector>

#include "base/check.h"
#include "base/text.h"

namespace vortex::attention {

namespace {
constexpr KvType kTypes[] = {KvType::bfloat16, KvType::int8, KvType::fp8};
}

const char* name_of(KvType type) { return type == KvType::bfloat16 ? "bf16" : type == KvType::int8 ? "int8" : "fp8"; }

KvType kv_type_of(const std::string& name) {
  std::vector<std::string> names;
  for (KvType type : kTypes) {
    if (name == name_of(type)) return type;
    names.emplace_back(name_of(type));
  }
  const std::string near = nearest_name(name, names);
  throw UserError("kv_dtype", concat("one of ", join(names, ", ")), concat("got \"", name, "\""),
                  near.empty() ? "leave it out for bf16" : concat("did you mean ", near, "?"));
}

void Geometry::validate() const {
  VORTEX_CHECK(layers >= 1 && kv_heads >= 1, layers, " layers, ", kv_heads, " KV heads");
  VORTEX_CHECK(group >= 1 && group <= 128, "group ", group);
  VORTEX_CHECK(head_dim >= 2 && head_dim <= 1024 && head_dim % 2 == 0, "head_dim ", head_dim);
  const std::int64_t values = value_channels();
  VORTEX_CHECK(values >= 2 && values <= 1024 && values % 2 == 0, "value_dim ", values);
  VORTEX_CHECK(!values_in_keys || values <= head_dim, "values of ", values, " channels in keys of ", head_dim);
  VORTEX_CHECK(page_size >= 1 && page_size <= 4096, "page_size ", page_size);
}

}  // namespace vortex::attention
