// Quantising, dequantising and the optimizers' steps on 8-bit states, once per instruction set.
#include <tendril/core/ops/quantized_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

constexpr int64_t kSize = 256;

ISA_INLINE float magnitude(float x) {
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, x) & 0x7FFFFFFFu);
}

// Magnitudes are ordered as their bits are, which a loop can take the maximum of in any order.
ISA_INLINE float largest_magnitude(int64_t n, const float* x) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x[i]) & 0x7FFFFFFFu;
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

ISA_INLINE bool is_finite(float x) { return x - x == 0.0f; }

ISA_INLINE void read(int64_t n, const QuantizedBlock& block, float* x) {
  const float* const values = block.book->values;
  const uint8_t* const codes = block.codes;
  const float scale = *block.absmax;
  for (int64_t i = 0; i < n; ++i) x[i] = values[codes[i]] * scale;
}

ISA_INLINE void write(int64_t n, const float* x, float largest, const QuantizedBlock& block) {
  // Copies, because a byte that is written might be part of anything else.
  const uint64_t* const cells = block.book->cells;
  const int32_t zero = block.book->zero;
  uint8_t* const codes = block.codes;
  *block.absmax = largest;
  // The inverse of a subnormal number may be infinite.
  constexpr float kMost = 3.4028234e38f;
  const float inverse = largest > 0.0f ? 1.0f / largest : 0.0f;
  const float scale = inverse < kMost ? inverse : kMost;
  float scaled[kSize];
  int32_t index[kSize];
  uint64_t cell[kSize];
  for (int64_t i = 0; i < n; ++i) {
    scaled[i] = magnitude(x[i]) * scale;
    const int32_t bits = __builtin_bit_cast(int32_t, scaled[i]);
    const int32_t wanted = (bits >> CodeBook::kShift) - CodeBook::kFirstCell;
    const int32_t low = wanted > 0 ? wanted : 0;
    index[i] = low < CodeBook::kCells ? low : CodeBook::kCells - 1;
  }
  for (int64_t i = 0; i < n; ++i) cell[i] = cells[index[i]];
  for (int64_t i = 0; i < n; ++i) {
    const float border = __builtin_bit_cast(float, static_cast<uint32_t>(cell[i]));
    const int32_t below = static_cast<int32_t>(cell[i] >> 32);
    const int32_t nearest = below + (scaled[i] > border ? 1 : 0);
    const int32_t least = x[i] == 0.0f ? 0 : 1;
    const int32_t level = nearest > least ? nearest : least;
    const int32_t down = level < zero ? level : zero;  // there is no -1
    const int32_t code = x[i] < 0.0f ? zero - down : zero + level;
    codes[i] = static_cast<uint8_t>(code);
  }
}

template <class Rule>
ISA_INLINE void step(int64_t n, float* p, const float* g, const QuantizedBlock* states,
                     const Rule rule) {
  constexpr int kStates = Rule::kStates;
  static_assert(kStates <= 2);
  float first[kSize], second[kSize];
  read(n, states[0], first);
  if constexpr (kStates > 1) read(n, states[1], second);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    float s[2] = {first[i], kStates > 1 ? second[i] : 0.0f};
    const float stepped = rule(p[i], g[i], s);
    const bool usable = is_finite(s[0]) && is_finite(s[1]);
    p[i] = usable ? stepped : p[i];
    first[i] = usable ? s[0] : 0.0f;
    second[i] = usable ? s[1] : 0.0f;
  }
  write(n, first, largest_magnitude(n, first), states[0]);
  if constexpr (kStates > 1) write(n, second, largest_magnitude(n, second), states[1]);
}

}  // namespace

bool quantize_block(int64_t n, const float* x, const QuantizedBlock& block) {
  const float largest = largest_magnitude(n, x);
  if (!is_finite(largest)) return false;
  write(n, x, largest, block);
  return true;
}

void dequantize_block(int64_t n, const QuantizedBlock& block, float* x) { read(n, block, x); }

// A whole block is compiled for its size.
#define RULE(...)                                                                              \
  void quantized_rule_block(int64_t n, float* p, const float* g, const QuantizedBlock* states, \
                            const ops::__VA_ARGS__& rule) {                                    \
    n == kSize ? step(kSize, p, g, states, rule) : step(n, p, g, states, rule);                \
  }
#include <tendril/core/ops/quantized_rules.def>

}  // namespace tendril::cpu::TENDRIL_ISA
