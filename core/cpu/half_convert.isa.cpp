#include <tendril/core/cpu/half_convert.h>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace tendril::cpu::TENDRIL_ISA {

void convert_run(const float* __restrict from, bfloat16* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i].bits = detail::bfloat16_from_float(from[i]);
}

void convert_run(const bfloat16* __restrict from, float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = detail::float_from_bfloat16(from[i].bits);
}

// The processor's own binary16 conversions round, keep NaN and subnormals as half.h does.

void convert_run(const float* __restrict from, float16* __restrict to, int64_t count) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < count; ++i) to[i].bits = detail::float16_from_float(from[i]);
}

void convert_run(const float16* __restrict from, float* __restrict to, int64_t count) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(to + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < count; ++i) to[i] = detail::float_from_float16(from[i].bits);
}

}  // namespace tendril::cpu::TENDRIL_ISA
