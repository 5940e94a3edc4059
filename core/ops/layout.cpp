#include <tendril/core/ops/layout.h>

#include <algorithm>

#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>

namespace tendril::ops {
namespace {

// A view of x's storage; `shift` is in elements from x's first one.
Tensor view_of(const Tensor& x, int64_t shift, const Shape& shape, const Strides& strides) {
  const int64_t offset = shape.numel() == 0 ? x.offset() : x.offset() + shift;
  return Tensor::view(x.storage(), offset, shape, strides, x.dtype());
}

// A distance in memory. It overflows only where no element is reached by it: in empty tensors and
// along axes of one element, whose strides may be anything.
int64_t times(int64_t count, int64_t stride) {
  int64_t distance = 0;
  return __builtin_mul_overflow(count, stride, &distance) ? 0 : distance;
}

// Replaces a size of -1 by what the number of elements leaves for it.
Shape resolve_shape(const char* op, const Tensor& x, const Shape& shape) {
  Shape result = shape;
  int64_t unknown = -1;
  for (int64_t i = 0; i < shape.rank(); ++i) {
    TENDRIL_CHECK(shape[i] >= -1, "[", op, "] sizes must be at least 0, or -1 once; got ", shape);
    if (shape[i] != -1) continue;
    TENDRIL_CHECK(unknown == -1, "[", op, "] only one size may be -1; got ", shape);
    unknown = i;
    result[i] = 1;
  }
  const int64_t known = result.numel();
  if (unknown >= 0) {
    TENDRIL_CHECK(known != 0 && x.numel() % known == 0, "[", op, "] the size -1 in ", shape,
                  " cannot be found; got a tensor of shape ", x.shape(), " with ", x.numel(),
                  " elements");
    result[unknown] = x.numel() / known;
  } else {
    TENDRIL_CHECK(known == x.numel(), "[", op, "] shape ", shape, " needs ", known,
                  " elements; got shape ", x.shape(), " with ", x.numel());
  }
  return result;
}

struct Run {
  int64_t size, stride;
};

struct SliceRange {
  int64_t begin, length, step;
};

// Python's slice.indices(): bounds count from the end when negative and are clamped.
SliceRange slice_range(int64_t size, int64_t start, std::optional<int64_t> stop, int64_t step) {
  TENDRIL_CHECK(step != 0, "[slice] step must not be 0");
  step = std::clamp(step, -(size + 1), size + 1);  // longer steps take one element as well
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto bound = [&](int64_t i) { return std::clamp(i < 0 ? i + size : i, low, high); };
  const int64_t begin = bound(start);
  const int64_t end = stop ? bound(*stop) : (step > 0 ? high : low);
  const int64_t distance = step > 0 ? end - begin : begin - end;
  const int64_t stride = step > 0 ? step : -step;
  return {begin, distance > 0 ? (distance + stride - 1) / stride : 0, step};
}

}  // namespace

std::optional<Strides> view_strides(const Tensor& x, const Shape& shape) {
  if (x.is_contiguous()) return contiguous_strides(shape);
  // Neighbouring axes that continue each other form runs; every new axis must lie within one run.
  Run runs[Shape::kMaxRank];
  int64_t count = 0;
  for (int64_t i = 0; i < x.rank(); ++i) {
    const int64_t size = x.shape()[i], stride = x.strides()[i];
    if (size == 1) continue;
    if (count > 0 && runs[count - 1].stride == stride * size)
      runs[count - 1] = {runs[count - 1].size * size, stride};
    else
      runs[count++] = {size, stride};
  }
  Strides strides = Strides::filled(shape.rank(), 1);
  int64_t axis = shape.rank() - 1;
  for (int64_t i = count - 1; i >= 0; --i) {
    auto [rest, stride] = runs[i];
    for (; axis >= 0 && rest > 1; --axis) {
      if (rest % shape[axis] != 0) return std::nullopt;
      strides[axis] = stride;
      stride *= shape[axis];
      rest /= shape[axis];
    }
  }
  return strides;
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  const Shape resolved = resolve_shape("reshape", x, shape);
  if (const auto strides = view_strides(x, resolved)) return view_of(x, 0, resolved, *strides);
  return view_of(clone(x), 0, resolved, contiguous_strides(resolved));
}

Shape rows_shape(const Tensor& x) {
  Shape leading = x.shape();
  leading.erase(x.rank() - 1);
  return {leading.numel(), x.size(-1)};
}

Tensor as_rows(const Tensor& x) { return reshape(x, rows_shape(x)); }

bool is_column_major(const Tensor& x) { return x.strides()[0] == 1 && x.strides()[1] != 1; }

Tensor view(const Tensor& x, const Shape& shape) {
  const Shape resolved = resolve_shape("view", x, shape);
  const auto strides = view_strides(x, resolved);
  TENDRIL_CHECK(strides, "[view] shape ", resolved, " cannot view a tensor of shape ", x.shape(),
                " with strides ", x.strides(), "; use reshape, which may copy");
  return view_of(x, 0, resolved, *strides);
}

namespace {

Shape permutation(const Shape& axes, int64_t rank) {
  TENDRIL_CHECK(axes.rank() == rank, "[permute] needs each axis once; got ", axes,
                " for a tensor with ", rank, " axes");
  normalize_axes("permute", axes, rank);  // no axis twice
  Shape result;
  for (int64_t axis : axes) result.push_back(normalize_axis("permute", axis, rank));
  return result;
}

}  // namespace

Tensor permute(const Tensor& x, const Shape& axes) {
  Shape shape;
  Strides strides;
  for (int64_t axis : permutation(axes, x.rank())) {
    shape.push_back(x.shape()[axis]);
    strides.push_back(x.strides()[axis]);
  }
  return view_of(x, 0, shape, strides);
}

Shape inverse_permutation(const Shape& axes, int64_t rank) {
  const Shape forward = permutation(axes, rank);
  Shape inverse = forward;
  for (int64_t i = 0; i < rank; ++i) inverse[forward[i]] = i;
  return inverse;
}

Tensor transpose(const Tensor& x, int64_t axis0, int64_t axis1) {
  axis0 = normalize_axis("transpose", axis0, x.rank());
  axis1 = normalize_axis("transpose", axis1, x.rank());
  Shape shape = x.shape();
  Strides strides = x.strides();
  std::swap(shape[axis0], shape[axis1]);
  std::swap(strides[axis0], strides[axis1]);
  return view_of(x, 0, shape, strides);
}

Tensor expand(const Tensor& x, const Shape& shape) {
  const int64_t lead = shape.rank() - x.rank();
  TENDRIL_CHECK(lead >= 0, "[expand] the new shape needs at least ", x.rank(), " axes; got ", shape,
                " for ", x.shape());
  Shape result = shape;
  Strides strides = Strides::filled(shape.rank(), 0);
  for (int64_t i = 0; i < shape.rank(); ++i) {
    const int64_t old = i < lead ? 1 : x.shape()[i - lead];
    if (i >= lead && shape[i] == -1) result[i] = old;
    TENDRIL_CHECK(result[i] >= 0 && (old == 1 || old == result[i]), "[expand] axis ", i,
                  " cannot grow from ", old, " to ", shape[i], "; got shape ", x.shape(), " to ",
                  shape, "; only axes of size 1 are repeated");
    if (old == result[i] && i >= lead) strides[i] = x.strides()[i - lead];
  }
  return view_of(x, 0, result, strides);
}

Tensor slice(const Tensor& x, int64_t axis, int64_t start, std::optional<int64_t> stop,
             int64_t step) {
  axis = normalize_axis("slice", axis, x.rank());
  const SliceRange range = slice_range(x.shape()[axis], start, stop, step);
  Shape shape = x.shape();
  Strides strides = x.strides();
  const int64_t shift = times(range.begin, strides[axis]);
  shape[axis] = range.length;
  strides[axis] = times(range.step, strides[axis]);
  return view_of(x, shift, shape, strides);
}

Tensor slice_backward(const Tensor& g, const Shape& shape, int64_t axis, int64_t start,
                      std::optional<int64_t> stop, int64_t step) {
  const Tensor result = zeros(shape, g.dtype(), g.device());
  copy(slice(result, axis, start, stop, step), g);
  return result;
}

Tensor narrow(const Tensor& x, int64_t axis, int64_t begin, int64_t size) {
  axis = normalize_axis("narrow", axis, x.rank());
  const int64_t total = x.shape()[axis];
  TENDRIL_CHECK(begin >= 0 && size >= 0 && begin <= total && size <= total - begin,
                "[narrow] elements ", begin, " to ", begin, " + ", size,
                " leave the axis; got shape ", x.shape(), " and axis ", axis);
  Shape shape = x.shape();
  shape[axis] = size;
  return view_of(x, times(begin, x.strides()[axis]), shape, x.strides());
}

Tensor select(const Tensor& x, int64_t axis, int64_t index) {
  axis = normalize_axis("select", axis, x.rank());
  const int64_t size = x.shape()[axis];
  TENDRIL_CHECK(index >= -size && index < size, "[select] index ", index,
                " is out of range for axis ", axis, " of shape ", x.shape());
  Shape shape = x.shape();
  Strides strides = x.strides();
  const int64_t shift = times(index < 0 ? index + size : index, strides[axis]);
  shape.erase(axis);
  strides.erase(axis);
  return view_of(x, shift, shape, strides);
}

Tensor select_backward(const Tensor& g, const Shape& shape, int64_t axis, int64_t index) {
  const Tensor result = zeros(shape, g.dtype(), g.device());
  copy(select(result, axis, index), g);
  return result;
}

std::vector<int64_t> split_sizes(int64_t total, int64_t size) {
  TENDRIL_CHECK(size > 0, "[split] pieces need a size above 0; got ", size);
  std::vector<int64_t> sizes;
  for (int64_t begin = 0; begin < total; begin += std::min(size, total - begin))
    sizes.push_back(std::min(size, total - begin));
  if (sizes.empty()) sizes.push_back(0);  // an empty axis is one empty piece
  return sizes;
}

std::vector<Tensor> split(const Tensor& x, std::span<const int64_t> sizes, int64_t axis) {
  axis = normalize_axis("split", axis, x.rank());
  int64_t rest = x.shape()[axis];
  for (int64_t size : sizes) {
    TENDRIL_CHECK(size >= 0 && size <= rest, "[split] the sizes must be at least 0 and add up to ",
                  x.shape()[axis], ", the size of axis ", axis, " of shape ", x.shape(),
                  "; got a piece of ", size, " where ", rest, " are left");
    rest -= size;
  }
  TENDRIL_CHECK(rest == 0, "[split] the sizes must add up to ", x.shape()[axis],
                ", the size of axis ", axis, " of shape ", x.shape(), "; ", rest, " are left over");
  std::vector<Tensor> pieces;
  pieces.reserve(sizes.size());
  int64_t begin = 0;
  for (int64_t size : sizes) {
    pieces.push_back(narrow(x, axis, begin, size));
    begin += size;
  }
  return pieces;
}

namespace {

// The pieces as one view, when they already lie side by side in one storage.
std::optional<Tensor> joined_view(std::span<const Tensor> pieces, const Shape& shape,
                                  int64_t axis) {
  const Tensor& first = pieces[0];
  if (shape.numel() == 0) return std::nullopt;
  int64_t offset = 0;  // of the next piece
  for (const Tensor& piece : pieces) {
    if (!piece.defined() || piece.storage() != first.storage() || piece.dtype() != first.dtype())
      return std::nullopt;
    if (&piece == &first) offset = first.offset();
    if (piece.offset() != offset) return std::nullopt;
    for (int64_t i = 0; i < shape.rank(); ++i)
      if ((shape[i] > 1 || i == axis) && piece.strides()[i] != first.strides()[i])
        return std::nullopt;
    offset += times(piece.shape()[axis], first.strides()[axis]);
  }
  return view_of(first, 0, shape, first.strides());
}

}  // namespace

Tensor split_backward(std::span<const Tensor> pieces, std::span<const int64_t> sizes,
                      const Shape& shape, int64_t axis) {
  axis = normalize_axis("split", axis, shape.rank());
  const auto first = std::find_if(pieces.begin(), pieces.end(),
                                  [](const Tensor& piece) { return piece.defined(); });
  TENDRIL_CHECK(first != pieces.end(), "[split] no piece has a gradient");
  if (const auto joined = joined_view(pieces, shape, axis)) return *joined;
  const Tensor result = Tensor::empty(shape, first->dtype(), first->device());
  int64_t begin = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Tensor place = narrow(result, axis, begin, sizes[i]);
    if (pieces[i].defined())
      copy(place, pieces[i]);
    else
      fill(place, 0.0);
    begin += sizes[i];
  }
  return result;
}

Tensor squeeze(const Tensor& x, std::optional<int64_t> axis) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  const int64_t only = axis ? normalize_axis("squeeze", *axis, x.rank()) : -1;
  TENDRIL_CHECK(only < 0 || shape[only] == 1, "[squeeze] axis ", only,
                " must have size 1; got shape ", shape);
  for (int64_t i = shape.rank() - 1; i >= 0; --i) {
    if (only >= 0 ? i != only : shape[i] != 1) continue;
    shape.erase(i);
    strides.erase(i);
  }
  return view_of(x, 0, shape, strides);
}

Tensor unsqueeze(const Tensor& x, int64_t axis) {
  axis = normalize_axis("unsqueeze", axis, x.rank() + 1);
  Shape shape = x.shape();
  Strides strides = x.strides();
  strides.insert(axis, axis < x.rank() ? times(shape[axis], strides[axis]) : 1);
  shape.insert(axis, 1);
  return view_of(x, 0, shape, strides);
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis0, int64_t axis1) {
  axis0 = normalize_axis("diagonal", axis0, x.rank());
  axis1 = normalize_axis("diagonal", axis1, x.rank());
  TENDRIL_CHECK(axis0 != axis1, "[diagonal] needs two different axes; got ", axis0, " twice");
  Shape shape = x.shape();
  Strides strides = x.strides();
  const int64_t rows = shape[axis0], columns = shape[axis1];
  offset = std::clamp(offset, -rows, columns);
  const int64_t row = std::max<int64_t>(0, -offset), column = std::max<int64_t>(0, offset);
  const int64_t length = std::min(rows - row, columns - column);
  const int64_t shift = times(row, strides[axis0]) + times(column, strides[axis1]);
  const int64_t stride = strides[axis0] + strides[axis1];
  for (int64_t axis : {std::max(axis0, axis1), std::min(axis0, axis1)}) {
    shape.erase(axis);
    strides.erase(axis);
  }
  shape.push_back(length);
  strides.push_back(stride);
  return view_of(x, shift, shape, strides);
}

Tensor diagonal_backward(const Tensor& g, const Shape& shape, int64_t offset, int64_t axis0,
                         int64_t axis1) {
  const Tensor result = zeros(shape, g.dtype(), g.device());
  copy(diagonal(result, offset, axis0, axis1), g);
  return result;
}

}  // namespace tendril::ops
