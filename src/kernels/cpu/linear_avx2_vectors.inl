// What linear_avx2.cpp and linear_avx_vnni.cpp share: half a panel (8 rows) is one register. Included in their
// anonymous namespaces; the integer dot products are their own.
struct Avx2Vectors {
  static constexpr int lanes = 8, tokens = 4;
  using Float = __m256;
  using Int = __m256i;
  using Bytes = __m256i;

  static Float zero() { return _mm256_setzero_ps(); }
  static Int zero_int() { return _mm256_setzero_si256(); }
  static Float load(const float* at) { return _mm256_loadu_ps(at); }
  static void store(float* at, Float value) { _mm256_storeu_ps(at, value); }
  static Float broadcast(const float* at) { return _mm256_broadcast_ss(at); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float load_f16(const std::uint8_t* at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static Float load_bf16(const std::uint16_t* at) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static Float to_float(Int value) { return _mm256_cvtepi32_ps(value); }
  static Bytes load_bytes(const std::uint8_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
  static Bytes low_nibbles(Bytes both) { return _mm256_and_si256(both, _mm256_set1_epi8(15)); }
  static Bytes high_nibbles(Bytes both) { return _mm256_and_si256(_mm256_srli_epi16(both, 4), _mm256_set1_epi8(15)); }
  static Bytes four(const std::int8_t* x) {
    std::int32_t word;
    __builtin_memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
  }

  template <int kShift, int kMask>  // low | (high shifted to the left by kShift & kMask)
  static Bytes with_bits(Bytes low, Bytes high) {
    const Bytes moved = kShift >= 0 ? _mm256_slli_epi16(high, kShift >= 0 ? kShift : 0)
                                    : _mm256_srli_epi16(high, kShift < 0 ? -kShift : 0);
    return _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(kMask)));
  }
  static Float load_i8(const std::uint8_t* at) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
  }
  static Int add_254_times(Int a, Int b) {
    return _mm256_add_epi32(a, _mm256_sub_epi32(_mm256_slli_epi32(b, 8), _mm256_slli_epi32(b, 1)));
  }

  static float largest_magnitude(const float* x) {
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    const __m256i most = _mm256_max_epi32(_mm256_castps_si256(_mm256_and_ps(_mm256_loadu_ps(x), mask)),
                                          _mm256_castps_si256(_mm256_and_ps(_mm256_loadu_ps(x + 8), mask)));
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(m));
  }
  static void put_bytes(std::int8_t* out, Int a, Int b) {
    // The pack works within 128-bit halves; the permutation puts the words back in order.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  static std::int32_t sum_of(Int sum) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
  }
  static std::int32_t quantize(const float* x, float inverse, std::int8_t* out) {
    const __m256 scale = _mm256_set1_ps(inverse);
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), scale));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), scale));
    put_bytes(out, a, b);
    return sum_of(_mm256_add_epi32(a, b));
  }
  static std::int32_t quantize_twice(const float* x, float inverse, float step, std::int8_t* out, std::int8_t* rest) {
    __m256i q[2], r[2];
    for (int i = 0; i < 2; ++i) {
      const __m256 value = _mm256_loadu_ps(x + 8 * i);
      q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(value, _mm256_set1_ps(inverse)));
      const __m256 left = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(q[i]), _mm256_set1_ps(step), value);
      r[i] = _mm256_cvtps_epi32(_mm256_mul_ps(left, _mm256_set1_ps(inverse * 254.0f)));
    }
    put_bytes(out, q[0], q[1]);
    put_bytes(rest, r[0], r[1]);
    return sum_of(add_254_times(_mm256_add_epi32(r[0], r[1]), _mm256_add_epi32(q[0], q[1])));
  }
};
