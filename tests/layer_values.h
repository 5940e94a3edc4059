// Small tools of the tests of layers and losses.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::testing {

using Values = std::vector<double>;
inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

inline Tensor floats(const Values& values, const Shape& shape) {
  return Tensor::from(std::vector<float>(values.begin(), values.end()), shape);
}

inline Tensor leaf(Tensor x) { return x.requires_grad_(); }

inline void check_near(const Tensor& x, const Values& expected, double tolerance) {
  const Values values = x.to_vector<double>();
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(values[i] - expected[i]) <= tolerance);
  }
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw_data(), b.raw_data(), static_cast<size_t>(a.nbytes())) == 0;
}

/// The transpose of a matrix, and its rows in reverse order, as views.
inline Tensor transposed(const Tensor& x) {
  return Tensor::view(x.storage(), x.offset(), {x.size(1), x.size(0)},
                      {x.strides()[1], x.strides()[0]}, x.dtype());
}
inline Tensor reversed(const Tensor& x) {
  return Tensor::view(x.storage(), x.offset() + (x.size(0) - 1) * x.strides()[0], x.shape(),
                      {-x.strides()[0], x.strides()[1]}, x.dtype());
}
/// The same numbers in column-major storage.
inline Tensor column_major(const Tensor& x) {
  const Tensor copy = Tensor::from(transposed(x).to_vector<float>(), {x.size(1), x.size(0)});
  return transposed(copy);
}

}  // namespace tendril::testing
