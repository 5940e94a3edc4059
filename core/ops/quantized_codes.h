// Private to core, for quantized_kernels.isa.cpp: blocks of 256 numbers to codes and back. With
// AVX2 or AVX-512 by the formulas of CodeBook, many numbers at a time; otherwise by its tables, one
// by one. Codes and numbers are the same either way.
#pragma once

#include <tendril/core/ops/quantized_kernels.h>
#include <tendril/core/ops/quantized_lanes.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

constexpr int kSize = 256;
#ifdef __AVX2__

template <bool kSigned>
ISA_INLINE void read(const QuantizedBlock& block, float* x) {
  const CodeBook& book = *block.book;
  const Table offset = table_of(book.offset), unit = table_of(book.unit);
  const int32_t zero = book.zero - book.first_place;
  const float scale = *block.absmax;
  for (int i = 0; i < kSize; i += kLanes) {
    const Ints number = load_bytes(block.codes + i) - zero;  // the place, or with a sign minus it
    const Floats place = to_floats(kSigned ? (number < 0 ? -number : number) : number);
    const Ints exponent = bits_of(place) >> 23;
    Floats level =
        multiply_add(place, 18.0f + Floats{}, look_up(offset, exponent)) * look_up(unit, exponent);
    if constexpr (kSigned) {
      level = larger(level, Floats{});
      level = from_bits(bits_of(level) | (number & ~kMagnitude));
    }
    store(x + i, level * scale);
  }
}

// `next` is memory of the size of x that is wanted soon: quantising leaves the memory idle. In two
// loops, as one would be a chain of so many operations that a processor sees too few numbers ahead
// to be busy.
template <bool kSigned>
ISA_INLINE void write(const float* x, float largest, const QuantizedBlock& block,
                      const float* next) {
  const CodeBook& book = *block.book;
  const Search search = search_of(book);
  const Table inverse = table_of(book.inverse), origin = table_of(book.origin);
  const Table last = table_of(book.last);
  const Floats least = book.least + Floats{}, scale = inverse_scale(largest) + Floats{};
  const Ints integers = bits_of(kIntegers + Floats{});
  *block.absmax = largest;
  float magnitude[kSize];
  int32_t decades[kSize];
  for (int i = 0; i < kSize; i += kLanes) {
    Floats y = load<Floats>(x + i) * scale;
    if constexpr (kSigned) y = from_bits(bits_of(y) & kMagnitude);
    y = larger(y, least);
    store(magnitude + i, y);
    store(decades + i, decade_of(search, y));
  }
  for (int i = 0; i < kSize; i += kLanes) {
    const Floats value = load<Floats>(x + i), y = load<Floats>(magnitude + i);
    const Ints decade = load<Ints>(decades + i);
    if (i % 16 == 0) __builtin_prefetch(next + i);
    const Floats d = look_up(inverse, decade), w = look_up(origin, decade);
    // The highest level whose lower border is below y: rounded to it or the one before, and then
    // without an error of rounding.
    const Floats rounded =
        multiply_add(multiply_add(y, d, w), 1.0f / 18.0f + Floats{}, kIntegers + Floats{});
    const Floats border = multiply_add(rounded - kIntegers, -18.0f + Floats{}, w);
    Ints level = add_where_above(bits_of(rounded), 1, multiply_add(y, d, border), Floats{});
    const Ints most = bits_of(look_up(last, decade));
    level = level < most ? level : most;
    level = value == 0.0f ? integers : level;
    if constexpr (kSigned)
      store_signed_bytes(block.codes + i, value < 0.0f ? level - integers : integers - level);
    else
      store_bytes(block.codes + i, level);
  }
}

#else

template <bool kSigned>
ISA_INLINE void read(const QuantizedBlock& block, float* x) {
  const float* const values = block.book->values;
  const float scale = *block.absmax;
  for (int i = 0; i < kSize; ++i) x[i] = values[block.codes[i]] * scale;
}

template <bool kSigned>
ISA_INLINE void write(const float* x, float largest, const QuantizedBlock& block,
                      const float* next) {
  const CodeBook& book = *block.book;
  const float scale = inverse_scale(largest);
  *block.absmax = largest;
  float magnitude[kSize];
  int32_t level[kSize];  // at first the cell
  for (int i = 0; i < kSize; ++i) {
    const float y = x[i] * scale;
    const int32_t bits = __builtin_bit_cast(int32_t, y) & kMagnitude;
    magnitude[i] = __builtin_bit_cast(float, bits);
    const int32_t wanted = (bits >> CodeBook::kShift) - CodeBook::kFirstCell;
    const int32_t low = wanted > 0 ? wanted : 0;
    level[i] = low < CodeBook::kCells ? low : CodeBook::kCells - 1;
  }
  for (int i = 0; i < kSize; ++i) {
    if (i % 16 == 0) __builtin_prefetch(next + i);
    const int32_t below = book.cells[level[i]];
    level[i] = below + (magnitude[i] > book.borders[below]);
  }
  const int32_t zero = book.zero, top = 255 - zero;
  uint8_t* const codes = block.codes;
  for (int i = 0; i < kSize; ++i) {
    const int32_t bits = __builtin_bit_cast(int32_t, x[i]), sign = bits >> 31;  // 0 or -1
    const int32_t least = (bits & kMagnitude) != 0;
    const int32_t nearest = level[i] > least ? level[i] : least;
    const int32_t most = top + (kSigned ? sign : 0);  // there is no -1
    const int32_t bounded = nearest < most ? nearest : most;
    codes[i] = static_cast<uint8_t>(zero + ((bounded ^ sign) - sign));
  }
}

#endif

}  // namespace
}  // namespace tendril::cpu::TENDRIL_ISA
