// Quantising, dequantising and the optimizers' steps on 8-bit states, once per instruction set. All
// of them give the same bits: this file is compiled without contractions (cmake/library.cmake).
#include <tendril/core/ops/quantized_codes.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

// Quantising waits for the block's largest number; with several blocks on the way a processor has
// something to do meanwhile.
constexpr int kGroup = 4;

// Magnitudes are ordered as their bits are, which a loop can take the maximum of in any order.
ISA_INLINE float largest_magnitude(const float* x) {
  int32_t largest = 0;
  for (int i = 0; i < kSize; ++i) {
    const int32_t bits = __builtin_bit_cast(int32_t, x[i]) & kMagnitude;
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

struct Largest {
  int32_t first, second;  // bits
};

// The rule on a block, and the largest magnitudes of the new states.
template <class Rule>
ISA_INLINE Largest apply(float* __restrict p, const float* __restrict g, float* __restrict first,
                         float* __restrict second, const Rule rule) {
  int32_t largest_first = 0, largest_second = 0;
#pragma GCC ivdep
  for (int i = 0; i < kSize; ++i) {
    float s[2] = {first[i], Rule::kStates > 1 ? second[i] : 0.0f};
    const float stepped = rule(p[i], g[i], s);
    const bool usable = is_finite(s[0]) && is_finite(s[1]);
    p[i] = usable ? stepped : p[i];
    const float new_first = usable ? s[0] : 0.0f, new_second = usable ? s[1] : 0.0f;
    const int32_t bits_first = __builtin_bit_cast(int32_t, new_first) & kMagnitude;
    const int32_t bits_second = __builtin_bit_cast(int32_t, new_second) & kMagnitude;
    largest_first = bits_first > largest_first ? bits_first : largest_first;
    largest_second = bits_second > largest_second ? bits_second : largest_second;
    first[i] = new_first;
    if constexpr (Rule::kStates > 1) second[i] = new_second;
  }
  return {largest_first, largest_second};
}

ISA_INLINE QuantizedBlock block_of(const QuantizedBlock& first, int64_t block) {
  return {first.codes + block * kSize, first.absmax + block, first.book};
}

// A group of blocks, of which `states` are the first ones.
template <class Rule>
ISA_INLINE void step(int64_t blocks, float* p, const float* g, const QuantizedBlock* states,
                     const Rule& rule) {
  constexpr int kStates = Rule::kStates, kLast = kStates - 1;
  static_assert(kStates <= 2);
  float numbers[kStates][kGroup][kSize], largest[kStates][kGroup];
  for (int64_t b = 0; b < blocks; ++b) {
    float *const first = numbers[0][b], *const second = numbers[kLast][b];
    read<Rule::kSigned[0]>(block_of(states[0], b), first);
    if constexpr (kStates > 1) read<Rule::kSigned[kLast]>(block_of(states[kLast], b), second);
    const Largest bits = apply(p + b * kSize, g + b * kSize, first, second, rule);
    largest[0][b] = __builtin_bit_cast(float, bits.first);
    if constexpr (kStates > 1) largest[kLast][b] = __builtin_bit_cast(float, bits.second);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    write<Rule::kSigned[0]>(numbers[0][b], largest[0][b], block_of(states[0], b),
                            p + (blocks + b) * kSize);
    if constexpr (kStates > 1)
      write<Rule::kSigned[kLast]>(numbers[kLast][b], largest[kLast][b], block_of(states[kLast], b),
                                  g + (blocks + b) * kSize);
  }
}

// A part of a block as a whole one.
struct PaddedCodes {
  uint8_t codes[kSize];
  QuantizedBlock block;
};
ISA_INLINE void pad(int64_t n, const QuantizedBlock& part, PaddedCodes& padded) {
  __builtin_memset(padded.codes, part.book->zero, kSize);
  __builtin_memcpy(padded.codes, part.codes, static_cast<size_t>(n));
  padded.block = {padded.codes, part.absmax, part.book};
}
ISA_INLINE void unpad(int64_t n, const PaddedCodes& padded, const QuantizedBlock& part) {
  __builtin_memcpy(part.codes, padded.codes, static_cast<size_t>(n));
}
ISA_INLINE void copy(int64_t n, const float* from, float* to) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

template <class Rule>
void step_of_part(int64_t n, float* p, const float* g, const QuantizedBlock* states,
                  const Rule& rule) {
  PaddedCodes padded[2];
  QuantizedBlock blocks[2];
  for (int k = 0; k < Rule::kStates; ++k) {
    pad(n, states[k], padded[k]);
    blocks[k] = padded[k].block;
  }
  float parameter[kSize] = {}, gradient[kSize] = {};
  copy(n, p, parameter);
  copy(n, g, gradient);
  step(1, parameter, gradient, blocks, rule);
  copy(n, parameter, p);
  for (int k = 0; k < Rule::kStates; ++k) unpad(n, padded[k], states[k]);
}

template <class Rule>
ISA_INLINE void steps(int64_t n, float* p, const float* g, const QuantizedBlock* states,
                      const Rule& rule) {
  const int64_t whole = n / kSize;
  QuantizedBlock at[Rule::kStates];
  for (int64_t b = 0; b < whole; b += kGroup) {
    for (int k = 0; k < Rule::kStates; ++k) at[k] = block_of(states[k], b);
    step(whole - b < kGroup ? whole - b : kGroup, p + b * kSize, g + b * kSize, at, rule);
  }
  if (n % kSize == 0) return;
  for (int k = 0; k < Rule::kStates; ++k) at[k] = block_of(states[k], whole);
  step_of_part(n % kSize, p + whole * kSize, g + whole * kSize, at, rule);
}

}  // namespace

bool quantize_block(int64_t n, const float* x, const QuantizedBlock& block) {
  float whole[kSize] = {};
  copy(n, x, whole);
  const float largest = largest_magnitude(whole);
  if (!is_finite(largest)) return false;
  PaddedCodes padded;
  pad(0, block, padded);
  block.book->zero > 0 ? write<true>(whole, largest, padded.block, x)
                       : write<false>(whole, largest, padded.block, x);
  unpad(n, padded, block);
  return true;
}

void dequantize_block(int64_t n, const QuantizedBlock& block, float* x) {
  float whole[kSize];
  PaddedCodes padded;
  pad(n, block, padded);
  block.book->zero > 0 ? read<true>(padded.block, whole) : read<false>(padded.block, whole);
  copy(n, whole, x);
}

#define RULE(...)                                                                               \
  void quantized_rule_blocks(int64_t n, float* p, const float* g, const QuantizedBlock* states, \
                             const ops::__VA_ARGS__& rule) {                                    \
    steps(n, p, g, states, rule);                                                               \
  }
#include <tendril/core/ops/quantized_rules.def>

}  // namespace tendril::cpu::TENDRIL_ISA
