// What linear_neon.cpp and linear_neon_dot.cpp share: a quarter of a panel (4 rows) is one register. Included in their
// anonymous namespaces; the integer dot products are their own.
struct NeonVectors {
  static constexpr int lanes = 4, tokens = 8;
  using Float = float32x4_t;
  using Int = int32x4_t;
  using Bytes = uint8x16_t;
  using Weights8 = int8x16_t;

  static Float zero() { return vdupq_n_f32(0.0f); }
  static Int zero_int() { return vdupq_n_s32(0); }
  static Float load(const float* at) { return vld1q_f32(at); }
  static void store(float* at, Float value) { vst1q_f32(at, value); }
  static Float broadcast(const float* at) { return vld1q_dup_f32(at); }
  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static Float load_f16(const std::uint8_t* at) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(at))));
  }
  static Float load_bf16(const std::uint16_t* at) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(at), 16)); }
  static Float to_float(Int value) { return vcvtq_f32_s32(value); }
  static Bytes load_bytes(const std::uint8_t* at) { return vld1q_u8(at); }
  static Bytes low_nibbles(Bytes both) { return vandq_u8(both, vdupq_n_u8(15)); }
  static Bytes high_nibbles(Bytes both) { return vshrq_n_u8(both, 4); }
  static Weights8 weights8(Bytes weights) { return vreinterpretq_s8_u8(veorq_u8(weights, vdupq_n_u8(128))); }
  static Int sum4(Int sum) { return sum; }
  static int8x16_t four(const std::int8_t* x) {
    std::int32_t word;
    __builtin_memcpy(&word, x, sizeof word);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
  }

  static float largest_magnitude(const float* x) {
    uint32x4_t most = vdupq_n_u32(0);
    for (int i = 0; i < 32; i += 4)
      most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffffu)));
    const std::uint32_t bits = vmaxvq_u32(most);
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return out;
  }
  static std::int32_t quantize(const float* x, float inverse, std::int8_t* out) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < 32; i += 8) {
      const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
      const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
      sum = vaddq_s32(sum, vaddq_s32(a, b));
      vst1_s8(out + i, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
    }
    return vaddvq_s32(sum);
  }
};
