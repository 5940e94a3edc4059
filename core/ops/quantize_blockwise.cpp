#include <tendril/core/ops/code_book.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/threads.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tendril::ops {
namespace {

using tendril::cpu::CodeBook;
using tendril::cpu::QuantizedBlock;

// The largest float that is at most numerator / denominator, both small enough that a float times
// the denominator is exact in double.
float at_most(double numerator, double denominator) {
  auto x = static_cast<float>(numerator / denominator);
  while (x * denominator > numerator) x = std::nextafter(x, 0.0f);
  return x;
}

// What a decade is; see CodeBook.
struct Decade {
  double first;    // its first place, P
  double inverse;  // D
};
Decade decade_of(CodeMap map, int b) {
  const double sides = map == CodeMap::with_sign ? 1.0 : 2.0;
  return {sides * std::exp2(b), sides * 256.0 * std::pow(5.0, 7 - b)};
}

// How to get from places to levels.
void set_levels(CodeBook& book, CodeMap map) {
  const auto set = [&](double first, double offset, double unit) {
    const int at = (127 + std::ilogb(first)) % 8;
    book.offset[at] = static_cast<float>(offset);
    book.unit[at] = static_cast<float>(unit);
  };
  for (int b = 0; b < 7; ++b) {
    const auto [first, inverse] = decade_of(map, b);
    set(first, 9.0 - 16.0 * first, 1.0 / inverse);
  }
  if (map == CodeMap::with_sign)
    set(128.0, 1.0 - 18.0 * 128.0, 1.0);  // 1; for 0 the formula of places 2 and 3 is negative
  else
    set(1.0, -18.0, 1.0 / (18.0 * 255.0));  // the line through place 1, which is 0, and 256
  const auto level = [&](int place) {
    const int at = place == 0 ? 0 : (127 + std::ilogb(place)) % 8;
    const float value = (static_cast<float>(place) * 18.0f + book.offset[at]) * book.unit[at];
    return std::max(value, 0.0f);
  };
  for (int code = 0; code < 256; ++code) {
    const int place = code - book.zero + book.first_place;
    book.values[code] = place < 0 ? -level(-place) : level(place);
  }
  book.least = book.values[book.zero + 1];
}

// How to get from magnitudes to levels.
void set_borders(CodeBook& book, CodeMap map) {
  const int shift = book.first_place, top = 255 - book.zero;
  int level = 0;
  // Half way between 0 and the first level.
  book.borders[level++] =
      at_most(18.0 * (1 + shift) + 9.0 - 16.0 * (1 + shift), 2.0 * decade_of(map, 0).inverse);
  for (int b = 0; b < 7; ++b) {
    const auto [first, inverse] = decade_of(map, b);
    for (; level + shift < 2.0 * first - 1.0; ++level)
      book.borders[level] = at_most(18.0 * (level + shift + 1) - 16.0 * first, inverse);
    // Half way to the next decade's first level, or to 1.
    book.borders[level++] = at_most(20.0 * first + (b < 6 ? 18.0 : -4.5), inverse);
    book.inverse[b] = static_cast<float>(inverse);
    book.origin[b] = static_cast<float>(16.0 * first - 18.0 * (shift + 1));
    book.last[b] = 0x1.8p23f + static_cast<float>(level - 1);
  }
  book.borders[top] = std::numeric_limits<float>::infinity();
  book.inverse[7] = 0.0f;  // any level beyond the last one
  book.origin[7] = 18.0f * 512.0f;
  book.last[7] = 0x1.8p23f + static_cast<float>(top);
}

// How to find the decade and the cell.
void set_search(CodeBook& book) {
  const auto end = [&](int decade) {
    return book.borders[static_cast<int>(book.last[decade] - 0x1.8p23f)];
  };
  uint32_t decade = 0;
  for (int binade = -31; binade <= 0; ++binade) {  // the magnitudes from 2^binade on
    const int at = (127 + binade) % 32;
    book.binade_decade[at] = detail::bits_float(decade);
    book.binade_border[at] = decade < 7 ? end(static_cast<int>(decade)) : INFINITY;
    if (book.binade_border[at] < std::exp2(binade + 1)) ++decade;
  }
  book.middle = end(3);
  for (int b = 0; b < 8; ++b) {
    book.outer[b] = end(b < 4 ? 1 : 5);
    book.odd[b] = end(b / 2 * 2);
  }
  int level = 0;
  for (int32_t cell = 0; cell < CodeBook::kCells; ++cell) {
    const auto bits = static_cast<uint32_t>(CodeBook::kFirstCell + cell) << CodeBook::kShift;
    while (detail::bits_float(bits) > book.borders[level]) ++level;
    book.cells[cell] = static_cast<uint8_t>(level);
  }
}

CodeBook make_book(CodeMap map) {
  CodeBook book{};
  book.zero = zero_code(map);
  book.first_place = map == CodeMap::with_sign ? 0 : 1;
  set_levels(book, map);
  set_borders(book, map);
  set_search(book);
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

namespace cpu {
namespace {

void quantize(const Tensor& x, const Quantized& to, CodeMap map) {
  const float* const values = x.data<float>();
  for_each_quant_block(to, map, [&](int64_t at, int64_t n, const QuantizedBlock& block) {
    TENDRIL_CHECK(map == CodeMap::with_sign ||
                      std::none_of(values + at, values + at + n, [](float v) { return v < 0.0f; }),
                  "[quantize_blockwise] the map without sign takes no negative number; got one "
                  "among the elements from ",
                  at, " on");
    const bool finite = TENDRIL_ISA_CALL(quantize_block(n, values + at, block));
    TENDRIL_CHECK(finite, "[quantize_blockwise] numbers must be finite; got one that is not among ",
                  "the elements from ", at, " on");
  });
}

void dequantize(const Quantized& x, const Tensor& to, CodeMap map) {
  float* const values = to.data<float>();
  for_each_quant_block(x, map, [&](int64_t at, int64_t n, const QuantizedBlock& block) {
    TENDRIL_ISA_CALL(dequantize_block(n, block, values + at));
  });
}

}  // namespace
}  // namespace cpu

namespace cuda {
void quantize(const Tensor& x, const Quantized& to, CodeMap map);  // quantize_blockwise.cu
void dequantize(const Quantized& x, const Tensor& to, CodeMap map);
}  // namespace cuda

Quantized quantize_blockwise(const Tensor& x, CodeMap map) {
  TENDRIL_CHECK(x.dtype() == f32 && x.is_contiguous(),
                "[quantize_blockwise] needs a dense f32 tensor; got ", x.dtype(), " ", x.shape(),
                x.is_contiguous() ? "" : ", strided");
  const Quantized result = {Tensor::empty(x.shape(), u8, x.device()),
                            Tensor::empty({quant_blocks(x.numel())}, f32, x.device())};
  TENDRIL_ON_DEVICE(x, quantize(x, result, map));
  return result;
}

Tensor dequantize_blockwise(const Quantized& x, CodeMap map) {
  TENDRIL_CHECK(x.codes.dtype() == u8 && x.codes.is_contiguous() && x.absmax.dtype() == f32 &&
                    x.absmax.is_contiguous() && x.absmax.numel() == quant_blocks(x.codes.numel()),
                "[dequantize_blockwise] needs dense u8 codes and one f32 per 256 of them; got ",
                x.codes.dtype(), " ", x.codes.shape(), " and ", x.absmax.dtype(), " ",
                x.absmax.shape());
  require_same_device("dequantize_blockwise", x.codes, x.absmax);
  const Tensor result = Tensor::empty(x.codes.shape(), f32, x.codes.device());
  TENDRIL_ON_DEVICE(x.codes, dequantize(x, result, map));
  return result;
}

}  // namespace tendril::ops
