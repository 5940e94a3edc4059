// Private to core, for quantized_codes.h: vectors of 8 numbers (AVX2) or 16 (AVX-512), by the
// compilers' vector types where those suffice.
#pragma once

#ifdef __AVX2__

#include <immintrin.h>

#include <cstdint>

#include <tendril/core/ops/quantized_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = int32_t __attribute__((vector_size(4 * kLanes)));

template <class Vector, class T>
ISA_INLINE Vector load(const T* from) {
  Vector x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}
template <class Vector, class T>
ISA_INLINE void store(T* to, Vector x) {
  __builtin_memcpy(to, &x, sizeof(x));
}

ISA_INLINE Ints bits_of(Floats x) { return reinterpret_cast<Ints>(x); }
ISA_INLINE Floats from_bits(Ints x) { return reinterpret_cast<Floats>(x); }
ISA_INLINE Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
/// Towards zero.
ISA_INLINE Ints to_ints(Floats x) { return __builtin_convertvector(x, Ints); }

// What the vector types lack, or compilers make too much of. look_up: table[index] for 8 entries,
// by the lowest 3 bits of each index. multiply_add: a b + c, rounded once. add_where_above: x + n
// in the lanes with a > b. store_bytes: the lowest byte of each lane; store_signed_bytes: 127 - x
// for x between -128 and 127, where larger ones are taken for 127. decade_of: see CodeBook.
#ifdef __AVX512F__

using Table = __m512;
// The masks are all ones; GCC 12 warns of the inside of the forms without.
ISA_INLINE Table table_of(const float* x) {
  return _mm512_maskz_broadcast_f32x8(0xFFFF, _mm256_loadu_ps(x));
}
ISA_INLINE Floats look_up(Table table, Ints index) {
  return _mm512_maskz_permutexvar_ps(0xFFFF, reinterpret_cast<__m512i>(index), table);
}
ISA_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
ISA_INLINE Floats larger(Floats a, Floats b) { return _mm512_maskz_max_ps(0xFFFF, a, b); }
ISA_INLINE Ints add_where_above(Ints x, int32_t n, Floats a, Floats b) {
  const __m512i old = reinterpret_cast<__m512i>(x);
  return reinterpret_cast<Ints>(
      _mm512_mask_add_epi32(old, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), old, _mm512_set1_epi32(n)));
}
ISA_INLINE Ints load_bytes(const uint8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, bytes));
}
ISA_INLINE void store_bytes(uint8_t* to, Ints x) {
  const __m128i bytes = _mm512_maskz_cvtepi32_epi8(0xFFFF, reinterpret_cast<__m512i>(x));
  __builtin_memcpy(to, &bytes, sizeof(bytes));
}
ISA_INLINE void store_signed_bytes(uint8_t* to, Ints x) {
  __m128i bytes = _mm512_maskz_cvtsepi32_epi8(0xFFFF, reinterpret_cast<__m512i>(x));
  bytes = _mm_xor_si128(bytes, _mm_set1_epi8(127));
  __builtin_memcpy(to, &bytes, sizeof(bytes));
}

// By the exponent, as in a binade there is at most one border between decades.
struct Search {
  __m512 border_low, border_high, decade_low, decade_high;
};
ISA_INLINE Search search_of(const CodeBook& book) {
  return {_mm512_loadu_ps(book.binade_border), _mm512_loadu_ps(book.binade_border + 16),
          _mm512_loadu_ps(book.binade_decade), _mm512_loadu_ps(book.binade_decade + 16)};
}
ISA_INLINE Ints decade_of(const Search& search, Floats y) {
  const __m512i binade = reinterpret_cast<__m512i>(bits_of(y) >> 23);
  const __m512 border = _mm512_permutex2var_ps(search.border_low, binade, search.border_high);
  const __m512 decade = _mm512_permutex2var_ps(search.decade_low, binade, search.decade_high);
  return add_where_above(reinterpret_cast<Ints>(decade), 1, y, border);
}

#else

using Table = __m256;
ISA_INLINE Table table_of(const float* x) { return _mm256_loadu_ps(x); }
ISA_INLINE Floats look_up(Table table, Ints index) {
  return _mm256_permutevar8x32_ps(table, reinterpret_cast<__m256i>(index));
}
ISA_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
ISA_INLINE Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
ISA_INLINE Ints add_where_above(Ints x, int32_t n, Floats a, Floats b) { return x + ((a > b) & n); }
ISA_INLINE Ints load_bytes(const uint8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(bytes));
}
ISA_INLINE void store_bytes(uint8_t* to, Ints x) {
  const __m256i low = _mm256_and_si256(reinterpret_cast<__m256i>(x), _mm256_set1_epi32(255));
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}
ISA_INLINE void store_signed_bytes(uint8_t* to, Ints x) {
  const __m256i wide = reinterpret_cast<__m256i>(x);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  const __m128i bytes = _mm_xor_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(127));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
}

// By three steps of a binary search.
struct Search {
  __m256 middle;
  Table outer, odd;
};
ISA_INLINE Search search_of(const CodeBook& book) {
  return {_mm256_set1_ps(book.middle), table_of(book.outer), table_of(book.odd)};
}
ISA_INLINE Ints decade_of(const Search& search, Floats y) {
  Ints decade = add_where_above(Ints{}, 4, y, search.middle);
  decade = add_where_above(decade, 2, y, look_up(search.outer, decade));
  return add_where_above(decade, 1, y, look_up(search.odd, decade));
}

#endif

}  // namespace
}  // namespace tendril::cpu::TENDRIL_ISA

#endif
