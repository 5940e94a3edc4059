// Eight bits per number: block-wise dynamic quantisation (Dettmers, Lewis, Shleifer, Zettlemoyer
// 2022, "8-bit Optimizers via Block-wise Quantization").
//
// A tensor is cut, in row-major order, into blocks of 256 elements. Each block keeps its largest
// magnitude, and each element the code of its value over that. The 256 codes lie densest, relative
// to their size, near 1 and reach down to 1e-7: seven decades, of which the one from 10^(k-7) to
// 10^(k-6) has 2^k codes on each side of zero (k = 0 .. 6), or 2^(k+1) where there is no negative
// side, the mid-points of equal intervals; and 0 and 1. Code -1 does not exist.
#pragma once

#include <array>

#include <tendril/core/tensor.h>

namespace tendril::ops {

inline constexpr int64_t kQuantBlock = 256;

/// For numbers of both signs, or for those that are never negative.
enum class CodeMap { with_sign, without_sign };

/// A quantised tensor: `codes` is u8 and has its shape, `absmax` f32 (blocks).
struct Quantized {
  Tensor codes, absmax;
};

inline int64_t quant_blocks(int64_t numel) { return (numel + kQuantBlock - 1) / kQuantBlock; }

/// What the codes stand for, ascending.
TENDRIL_API const std::array<float, 256>& code_values(CodeMap map);
/// The code of 0.
constexpr uint8_t zero_code(CodeMap map) { return map == CodeMap::with_sign ? 127 : 0; }

/// The nearest codes of a dense f32 tensor, the same on every device. What is not 0 never gets the
/// code of 0: a second moment that vanishes beside a mean that does not would make a step of any
/// size. Error (for a GPU, at the next wait) for numbers that are not finite, and for negative ones
/// in the map without sign.
TENDRIL_API Quantized quantize_blockwise(const Tensor& x, CodeMap map);
TENDRIL_API Tensor dequantize_blockwise(const Quantized& x, CodeMap map);

}  // namespace tendril::ops
