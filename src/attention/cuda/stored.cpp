#include "attention/cuda/stored.h"

#include <vortex/error.h>

#include "base/text.h"

namespace vortex::attention {

namespace {

std::string words_of(vortex_dtype type) {
  switch (type) {
    case VORTEX_BFLOAT16:
      return "bfloat16";
    case VORTEX_INT8:
      return "int8";
    case VORTEX_FP8:
      return "fp8";
    default:
      return concat("dtype ", static_cast<int>(type));
  }
}

cuda::Plane plane_of(const vortex_plane& plane, const vortex_scales& scales) {
  return {plane.base,  plane.page_stride,  plane.head_stride, plane.token_stride,
          scales.base, scales.page_stride, scales.head_stride};
}

}  // namespace

vortex_dtype dtype_of(KvType type) {
  return type == KvType::bfloat16 ? VORTEX_BFLOAT16 : type == KvType::int8 ? VORTEX_INT8 : VORTEX_FP8;
}

std::string kv_text(vortex_dtype type) {
  if (type == VORTEX_BFLOAT16) return "";
  return concat("#define VORTEX_KV ", type == VORTEX_INT8 ? 1 : 2, "\n");
}

std::int64_t kv_channel_bytes(vortex_dtype type) { return type == VORTEX_BFLOAT16 ? 2 : 1; }
std::int64_t kv_scale_bytes(vortex_dtype type) { return type == VORTEX_BFLOAT16 ? 0 : 4; }

KvPlanes planes_of(const vortex_kv& kv, vortex_dtype made_for) {
  if (kv.dtype != made_for)
    throw UserError("attention", concat("KV in ", words_of(made_for), ", which these kernels were made for"),
                    words_of(kv.dtype),
                    concat("store K and V in ", words_of(made_for), ", or have kernels made for ", words_of(kv.dtype),
                           " if there are any"));
  return {plane_of(kv.k, kv.k_scales), plane_of(kv.v, kv.v_scales)};
}

}  // namespace vortex::attention
