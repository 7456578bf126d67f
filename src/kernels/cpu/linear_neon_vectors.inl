// What linear_neon.cpp and linear_neon_dot.cpp share: a quarter of a panel (4 rows) is one register. Included in their
// anonymous namespaces; the integer dot products are their own.
struct NeonVectors {
  static constexpr int lanes = 4, tokens = 8;
  using Float = float32x4_t;
  using Int = int32x4_t;
  using Bytes = uint8x16_t;

  static Float zero() { return vdupq_n_f32(0.0f); }
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
  template <int kShift, int kMask>  // low | (high shifted to the left by kShift & kMask)
  static Bytes with_bits(Bytes low, Bytes high) {
    return vorrq_u8(low, vandq_u8(vshlq_u8(high, vdupq_n_s8(kShift)), vdupq_n_u8(kMask)));
  }
  // The bytes as signed numbers: the stored 128 is taken off at once.
  static Bytes weights8(Bytes weights) { return veorq_u8(weights, vdupq_n_u8(128)); }
  static Float load_i8(const std::uint8_t* at) {
    std::int32_t word;
    __builtin_memcpy(&word, at, sizeof word);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word))))));
  }
  template <int kBits>
  static Int begin(const std::int32_t* start) {
    return vdupq_n_s32(kBits == 8 || !start ? 0 : *start);
  }
  template <int>
  static Int end(Int sum, const std::int32_t*) {
    return sum;
  }
  static Int add_254_times(Int a, Int b) { return vmlaq_n_s32(a, b, 254); }
  static int8x16_t four(const std::int8_t* x) {
    std::int32_t word;
    __builtin_memcpy(&word, x, sizeof word);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
  }

  static float largest_magnitude(const float* x) {
    uint32x4_t most = vdupq_n_u32(0);
    for (int i = 0; i < 16; i += 4)
      most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffffu)));
    const std::uint32_t bits = vmaxvq_u32(most);
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return out;
  }
  static void put_bytes(std::int8_t* out, Int a, Int b) {
    vst1_s8(out, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
  }
  static std::int32_t quantize(const float* x, float inverse, std::int8_t* out) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < 16; i += 8) {
      const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
      const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
      sum = vaddq_s32(sum, vaddq_s32(a, b));
      put_bytes(out + i, a, b);
    }
    return vaddvq_s32(sum);
  }
  static std::int32_t quantize_twice(const float* x, float inverse, float step, std::int8_t* out, std::int8_t* rest) {
    int32x4_t q[4], r[4], sum = vdupq_n_s32(0);
    for (int i = 0; i < 4; ++i) {
      const float32x4_t value = vld1q_f32(x + 4 * i);
      q[i] = vcvtnq_s32_f32(vmulq_n_f32(value, inverse));
      const float32x4_t left = vfmsq_n_f32(value, vcvtq_f32_s32(q[i]), step);
      r[i] = vcvtnq_s32_f32(vmulq_n_f32(left, inverse * 254.0f));
      sum = vaddq_s32(sum, add_254_times(r[i], q[i]));
    }
    for (int i = 0; i < 4; i += 2) {
      put_bytes(out + 4 * i, q[i], q[i + 1]);
      put_bytes(rest + 4 * i, r[i], r[i + 1]);
    }
    return vaddvq_s32(sum);
  }
};
