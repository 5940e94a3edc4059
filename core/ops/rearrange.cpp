#include <tendril/core/ops/rearrange.h>

#include <algorithm>
#include <cstring>

#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunkBytes = 128 * 1024;

// Zeroes part of each row of a dense tensor whose last two axes are (rows, columns).
template <class Range>
void zero_in_rows(const Tensor& x, const Range& range) {
  const int64_t rows = x.size(-2), columns = x.size(-1), element = size_of(x.dtype());
  char* data = static_cast<char*>(x.raw_data());
  const int64_t chunk = std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, columns * element));
  parallel_for(x.numel() / std::max<int64_t>(1, columns), chunk, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto [first, last] = range(row % rows, columns);
      if (first < last)
        std::memset(data + (row * columns + first) * element, 0,
                    static_cast<size_t>((last - first) * element));
    }
  });
}

struct Columns {
  int64_t first, last;
};

// The same answer for every diagonal outside the matrix, without overflow in row + diagonal.
int64_t clamp_diagonal(const char* op, const Tensor& x, int64_t diagonal) {
  TENDRIL_CHECK(x.rank() >= 2, "[", op, "] needs at least 2 axes; got shape ", x.shape());
  return std::clamp(diagonal, -x.size(-2) - 1, x.size(-1) + 1);
}

// x's sizes before, at and after an axis.
Shape around(const Shape& shape, int64_t axis) {
  Shape result{1, shape[axis], 1};
  for (int64_t i = 0; i < axis; ++i) result[0] *= shape[i];
  for (int64_t i = axis + 1; i < shape.rank(); ++i) result[2] *= shape[i];
  return result;
}

Shape with_leading_ones(const Shape& shape, int64_t rank) {
  Shape result = shape;
  while (result.rank() < rank) result.insert(0, 1);
  return result;
}

void check_repeats(const Shape& shape, const Shape& repeats) {
  TENDRIL_CHECK(repeats.rank() >= shape.rank(), "[repeat] needs a count for every axis; got ",
                repeats, " for shape ", shape);
  for (int64_t count : repeats)
    TENDRIL_CHECK(count >= 0, "[repeat] counts must not be negative; got ", repeats);
}

}  // namespace

namespace cpu {

void zero_above_diagonal(const Tensor& x, int64_t diagonal) {
  zero_in_rows(x, [=](int64_t row, int64_t columns) {
    return Columns{std::max<int64_t>(0, row + diagonal + 1), columns};
  });
}

void zero_below_diagonal(const Tensor& x, int64_t diagonal) {
  zero_in_rows(x, [=](int64_t row, int64_t columns) {
    return Columns{0, std::min(columns, row + diagonal)};
  });
}

}  // namespace cpu

namespace cuda {  // rearrange.cu

void zero_above_diagonal(const Tensor& x, int64_t diagonal);
void zero_below_diagonal(const Tensor& x, int64_t diagonal);

}  // namespace cuda

Tensor cat(const std::vector<Tensor>& parts, int64_t axis) {
  TENDRIL_CHECK(!parts.empty(), "[cat] needs at least one tensor");
  Shape shape = parts[0].shape();
  axis = normalize_axis("cat", axis, shape.rank());
  DType dtype = parts[0].dtype();
  shape[axis] = 0;
  for (const Tensor& part : parts) {
    require_same_device("cat", parts[0], part);
    dtype = promote(dtype, part.dtype());
    Shape outside = part.shape();
    if (outside.rank() == shape.rank()) outside[axis] = shape[axis];
    TENDRIL_CHECK(outside == shape, "[cat] shapes must agree outside axis ", axis, "; got ",
                  parts[0].shape(), " and ", part.shape());
    shape[axis] += part.shape()[axis];
  }
  const Tensor result = Tensor::empty(shape, dtype, parts[0].device());
  int64_t begin = 0;
  for (const Tensor& part : parts) {
    copy(narrow(result, axis, begin, part.shape()[axis]), part);
    begin += part.shape()[axis];
  }
  return result;
}

Tensor flip(const Tensor& x, const Shape& axes) {
  Tensor reversed = raw(x);
  for (int64_t axis : normalize_axes("flip", axes, x.rank()))
    reversed = slice(reversed, axis, -1, std::nullopt, -1);
  return clone(reversed);
}

Tensor roll(const Tensor& x, int64_t shift, int64_t axis) {
  axis = normalize_axis("roll", axis, x.rank());
  const int64_t size = x.shape()[axis];
  if (size == 0) return clone(x);
  const int64_t head = (shift % size + size) % size;  // the last `head` elements come first
  return cat({narrow(x, axis, size - head, head), narrow(x, axis, 0, size - head)}, axis);
}

Tensor repeat(const Tensor& x, const Shape& repeats) {
  check_repeats(x.shape(), repeats);
  Shape shape = with_leading_ones(x.shape(), repeats.rank());
  Tensor result = reshape(contiguous(x), shape);
  for (int64_t axis = repeats.rank() - 1; axis >= 0; --axis) {
    if (repeats[axis] == 1) continue;
    const Shape sizes = around(shape, axis);
    const Tensor once = reshape(result, {sizes[0], 1, sizes[1] * sizes[2]});
    TENDRIL_CHECK(!__builtin_mul_overflow(shape[axis], repeats[axis], &shape[axis]),
                  "[repeat] the result does not fit in 64 bits; got repeats ", repeats);
    const Tensor tiled = Tensor::empty(shape, x.dtype(), x.device());
    copy(reshape(tiled, {sizes[0], repeats[axis], sizes[1] * sizes[2]}), once);
    result = tiled;
  }
  return result.storage() == x.storage() ? clone(result) : result;
}

Tensor repeat_backward(const Tensor& g, const Shape& shape, const Shape& repeats) {
  check_repeats(shape, repeats);
  Shape sizes_left = g.shape();
  Tensor total = cast(g, accumulate_dtype(g.dtype()));  // one rounding, however many axes
  for (int64_t axis = 0; axis < repeats.rank(); ++axis) {
    if (repeats[axis] == 1) continue;
    const Shape sizes = around(sizes_left, axis);
    const int64_t size =
        axis < repeats.rank() - shape.rank() ? 1 : shape[axis - repeats.rank() + shape.rank()];
    const Tensor copies = reshape(total, {sizes[0], repeats[axis], size * sizes[2]});
    total = sum_to(copies, {sizes[0], 1, size * sizes[2]});
    sizes_left[axis] = size;
    total = reshape(total, sizes_left);
  }
  return cast(reshape(total, shape), g.dtype());
}

Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, double value) {
  const auto pairs = static_cast<int64_t>(padding.size()) / 2;
  TENDRIL_CHECK(padding.size() % 2 == 0 && pairs <= x.rank(),
                "[pad] needs a pair of numbers for each of up to ", x.rank(), " axes; got ",
                padding.size(), " numbers");
  Shape shape = x.shape();
  for (int64_t axis = 0; axis < pairs; ++axis) {
    const int64_t before = padding[static_cast<size_t>(2 * axis)];
    const int64_t after = padding[static_cast<size_t>(2 * axis + 1)];
    TENDRIL_CHECK(before >= 0 && after >= 0, "[pad] padding must not be negative; got ", before,
                  " and ", after, " for axis ", axis, "; cut with slice");
    TENDRIL_CHECK(!__builtin_add_overflow(shape[axis], before, &shape[axis]) &&
                      !__builtin_add_overflow(shape[axis], after, &shape[axis]),
                  "[pad] axis ", axis, " does not fit in 64 bits; got ", before, " and ", after);
  }
  const Tensor result = full(shape, value, x.dtype(), x.device());
  copy(pad_backward(result, x.shape(), padding), x);
  return result;
}

Tensor pad_backward(const Tensor& g, const Shape& shape, const std::vector<int64_t>& padding) {
  Tensor inner = g;
  for (size_t i = 0; i < padding.size() / 2; ++i) {
    const auto axis = static_cast<int64_t>(i);
    inner = narrow(inner, axis, padding[2 * i], shape[axis]);
  }
  return inner;
}

Tensor tril(const Tensor& x, int64_t diagonal) {
  diagonal = clamp_diagonal("tril", x, diagonal);
  const Tensor result = clone(x);
  TENDRIL_ON_DEVICE(x, zero_above_diagonal(result, diagonal));
  return result;
}

Tensor triu(const Tensor& x, int64_t diagonal) {
  diagonal = clamp_diagonal("triu", x, diagonal);
  const Tensor result = clone(x);
  TENDRIL_ON_DEVICE(x, zero_below_diagonal(result, diagonal));
  return result;
}

}  // namespace tendril::ops
