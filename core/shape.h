// Shapes and strides: up to eight integers without a heap allocation.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include <tendril/core/error.h>

namespace tendril {

class TENDRIL_API Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims)
      : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  Shape(const std::vector<int64_t>& dims) : Shape(std::span<const int64_t>(dims)) {}
  Shape(std::span<const int64_t> dims);  // Error when there are more than kMaxRank
  /// `rank` times `value`.
  static Shape filled(int64_t rank, int64_t value);

  int64_t rank() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  int64_t& operator[](int64_t i) { return dims_[i]; }
  int64_t operator[](int64_t i) const { return dims_[i]; }
  int64_t back() const { return dims_[rank_ - 1]; }
  int64_t* begin() { return dims_; }
  int64_t* end() { return dims_ + rank_; }
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + rank_; }
  operator std::span<const int64_t>() const { return {dims_, static_cast<size_t>(rank_)}; }

  void push_back(int64_t value);
  void insert(int64_t position, int64_t value);
  void erase(int64_t position);

  /// Product of the sizes; 1 for rank 0. Error when it does not fit in 63 bits or a size is
  /// negative.
  int64_t numel() const;
  friend TENDRIL_API bool operator==(const Shape& a, const Shape& b);

 private:
  int64_t dims_[kMaxRank] = {};
  int64_t rank_ = 0;
};

using Strides = Shape;  // in elements, not bytes

TENDRIL_API std::ostream& operator<<(std::ostream& out, const Shape& shape);  // "(2, 3)"

/// Row-major strides of a dense tensor.
TENDRIL_API Strides contiguous_strides(const Shape& shape);

/// NumPy broadcasting: align at the last axis, sizes must be equal or one of them 1.
TENDRIL_API Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

/// Maps a possibly negative axis into [0, rank); Error names `op` and the valid range.
TENDRIL_API int64_t normalize_axis(const char* op, int64_t axis, int64_t rank);

/// Normalises, sorts and checks for duplicates; an empty list means all axes.
TENDRIL_API Shape normalize_axes(const char* op, const Shape& axes, int64_t rank);

}  // namespace tendril
