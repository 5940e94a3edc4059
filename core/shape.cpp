#include <tendril/core/shape.h>

#include <algorithm>
#include <ostream>

namespace tendril {

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int64_t>(dims.size())) {
  TENDRIL_CHECK(rank_ <= kMaxRank, "[shape] at most ", kMaxRank, " axes are supported; got ",
                rank_);
  std::copy(dims.begin(), dims.end(), dims_);
}

Shape Shape::filled(int64_t rank, int64_t value) {
  TENDRIL_CHECK(rank >= 0 && rank <= kMaxRank, "[shape] rank must be in [0, ", kMaxRank, "]; got ",
                rank);
  Shape shape;
  shape.rank_ = rank;
  std::fill(shape.begin(), shape.end(), value);
  return shape;
}

void Shape::push_back(int64_t value) { insert(rank_, value); }

void Shape::insert(int64_t position, int64_t value) {
  TENDRIL_CHECK(rank_ < kMaxRank, "[shape] at most ", kMaxRank, " axes are supported; got ",
                rank_ + 1);
  TENDRIL_CHECK(position >= 0 && position <= rank_, "[shape] no position ", position, " in ",
                *this);
  std::copy_backward(dims_ + position, dims_ + rank_, dims_ + rank_ + 1);
  dims_[position] = value;
  ++rank_;
}

void Shape::erase(int64_t position) {
  TENDRIL_CHECK(position >= 0 && position < rank_, "[shape] no position ", position, " in ", *this);
  std::copy(dims_ + position + 1, dims_ + rank_, dims_ + position);
  --rank_;
}

int64_t Shape::numel() const {
  int64_t count = 1;
  bool zero = false, overflow = false;
  for (int64_t size : *this) {
    TENDRIL_CHECK(size >= 0, "[shape] sizes must not be negative; got ", *this);
    zero = zero || size == 0;
    // A zero anywhere makes the product zero, whatever the other sizes are.
    if (size > 0) overflow = __builtin_mul_overflow(count, size, &count) || overflow;
  }
  if (zero) return 0;
  TENDRIL_CHECK(!overflow, "[shape] the number of elements does not fit in 64 bits; got ", *this);
  return count;
}

bool operator==(const Shape& a, const Shape& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (int64_t i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << (shape.rank() == 1 ? ",)" : ")");
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = Shape::filled(shape.rank(), 1);
  for (int64_t i = shape.rank() - 2; i >= 0; --i) {
    const int64_t size = std::max<int64_t>(shape[i + 1], 1);
    // Only a shape with a zero can overflow here, and the strides of no elements are never used.
    if (__builtin_mul_overflow(strides[i + 1], size, &strides[i])) strides[i] = 1;
  }
  return strides;
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  Shape result = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  const int64_t lead = result.rank() - shorter.rank();
  for (int64_t i = 0; i < shorter.rank(); ++i) {
    int64_t& size = result[lead + i];
    TENDRIL_CHECK(size == shorter[i] || size == 1 || shorter[i] == 1, "[", op,
                  "] shapes do not broadcast; got ", a, " and ", b,
                  "; aligned at the last axis, sizes must be equal or 1");
    if (size == 1) size = shorter[i];
  }
  return result;
}

int64_t normalize_axis(const char* op, int64_t axis, int64_t rank) {
  const int64_t wrapped = axis < 0 ? axis + rank : axis;
  TENDRIL_CHECK(wrapped >= 0 && wrapped < rank, "[", op, "] axis ", axis,
                " is out of range for a tensor with ", rank, " axes");
  return wrapped;
}

Shape normalize_axes(const char* op, const Shape& axes, int64_t rank) {
  Shape result;
  if (axes.empty()) {
    for (int64_t i = 0; i < rank; ++i) result.push_back(i);
    return result;
  }
  for (int64_t axis : axes) result.push_back(normalize_axis(op, axis, rank));
  std::sort(result.begin(), result.end());
  TENDRIL_CHECK(std::adjacent_find(result.begin(), result.end()) == result.end(), "[", op,
                "] an axis is named twice; got axes ", axes);
  return result;
}

}  // namespace tendril
