#include <tendril/core/ops/code_book.h>
#include <tendril/core/threads.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace tendril::ops {
namespace {

using tendril::cpu::CodeBook;
using tendril::cpu::QuantizedBlock;

// 0, the codes above it, and 1. In double: the tables round once.
std::vector<double> levels_of(CodeMap map) {
  std::vector<double> levels = {0.0};
  for (int k = 0; k <= 6; ++k) {
    const int count = 1 << (map == CodeMap::with_sign ? k : k + 1);
    for (int i = 0; i < count; ++i)
      levels.push_back(std::pow(10.0, k - 6) * (0.1 + 0.9 * (i + 0.5) / count));
  }
  levels.push_back(1.0);
  return levels;
}

CodeBook make_book(CodeMap map) {
  const std::vector<double> levels = levels_of(map);
  const int top = static_cast<int>(levels.size()) - 1;
  CodeBook book{};
  book.zero = zero_code(map);
  for (int j = 0; j <= top; ++j) book.values[book.zero + j] = static_cast<float>(levels[j]);
  for (int j = 1; j <= book.zero; ++j) book.values[book.zero - j] = static_cast<float>(-levels[j]);
  const auto border = [&](int level) {  // between this level and the next
    if (level == top) return std::numeric_limits<float>::infinity();
    return static_cast<float>((levels[level] + levels[level + 1]) / 2.0);
  };
  int level = 0;
  for (int32_t cell = 0; cell < CodeBook::kCells; ++cell) {
    const auto bits = static_cast<uint32_t>(CodeBook::kFirstCell + cell) << CodeBook::kShift;
    while (detail::bits_float(bits) > border(level)) ++level;
    book.cells[cell] = static_cast<uint64_t>(level) << 32 | detail::float_bits(border(level));
  }
  return book;
}

// Calls body(first element, count, the block's place) for each block.
template <class Body>
void for_each_quant_block(const Quantized& x, CodeMap map, const Body& body) {
  const CodeBook& book = code_book(map);
  uint8_t* const codes = x.codes.data<uint8_t>();
  float* const absmax = x.absmax.data<float>();
  const int64_t numel = x.codes.numel();
  parallel_for(numel, 128 * kQuantBlock, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kQuantBlock)
      body(at, std::min(kQuantBlock, end - at),
           QuantizedBlock{codes + at, absmax + at / kQuantBlock, &book});
  });
}

}  // namespace

const CodeBook& code_book(CodeMap map) {
  static const CodeBook with = make_book(CodeMap::with_sign);
  static const CodeBook without = make_book(CodeMap::without_sign);
  return map == CodeMap::with_sign ? with : without;
}

const std::array<float, 256>& code_values(CodeMap map) {
  static const auto values = [] {
    std::array<std::array<float, 256>, 2> both;
    std::copy_n(code_book(CodeMap::with_sign).values, 256, both[0].begin());
    std::copy_n(code_book(CodeMap::without_sign).values, 256, both[1].begin());
    return both;
  }();
  return values[map == CodeMap::with_sign ? 0 : 1];
}

Quantized quantize_blockwise(const Tensor& x, CodeMap map) {
  TENDRIL_CHECK(x.dtype() == f32 && x.is_contiguous() && x.device().is_cpu(),
                "[quantize_blockwise] needs a dense f32 tensor on the CPU; got ", x.dtype(), " ",
                x.shape(), " on ", x.device());
  const Quantized result = {Tensor::empty(x.shape(), u8),
                            Tensor::empty({quant_blocks(x.numel())}, f32)};
  const float* const values = x.data<float>();
  for_each_quant_block(result, map, [&](int64_t at, int64_t n, const QuantizedBlock& block) {
    TENDRIL_CHECK(map == CodeMap::with_sign ||
                      std::none_of(values + at, values + at + n, [](float v) { return v < 0.0f; }),
                  "[quantize_blockwise] the map without sign takes no negative number; got one "
                  "among the elements from ",
                  at, " on");
    const bool finite = TENDRIL_ISA_CALL(quantize_block(n, values + at, block));
    TENDRIL_CHECK(finite, "[quantize_blockwise] numbers must be finite; got one that is not among ",
                  "the elements from ", at, " on");
  });
  return result;
}

Tensor dequantize_blockwise(const Quantized& x, CodeMap map) {
  TENDRIL_CHECK(x.codes.dtype() == u8 && x.codes.is_contiguous() && x.absmax.dtype() == f32 &&
                    x.absmax.is_contiguous() && x.absmax.numel() == quant_blocks(x.codes.numel()),
                "[dequantize_blockwise] needs dense u8 codes and one f32 per 256 of them; got ",
                x.codes.dtype(), " ", x.codes.shape(), " and ", x.absmax.dtype(), " ",
                x.absmax.shape());
  const Tensor result = Tensor::empty(x.codes.shape(), f32);
  float* const values = result.data<float>();
  for_each_quant_block(x, map, [&](int64_t at, int64_t n, const QuantizedBlock& block) {
    TENDRIL_ISA_CALL(dequantize_block(n, block, values + at));
  });
  return result;
}

}  // namespace tendril::ops
