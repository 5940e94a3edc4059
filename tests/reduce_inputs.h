// Inputs for the reduction and sort tests.
#pragma once

#include <limits>
#include <numeric>
#include <vector>

#include <tendril/core/random.h>
#include <tendril/core/tensor.h>
#include <tendril/core/threads.h>

namespace tendril::testing {

using Values = std::vector<double>;
inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// 1 2 3
// 4 5 6
inline Tensor two_by_three(DType dtype = f32) {
  if (dtype == f64) return Tensor::from<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  if (dtype == i32) return Tensor::from<int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  return Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
}

// The numbers 0, 1, 2, ... as f32.
inline Tensor counting(const Shape& shape) {
  Tensor x = Tensor::empty(shape);
  std::iota(x.data<float>(), x.data<float>() + x.numel(), 0.0f);
  return x;
}

// Standard normal numbers, in f64 or rounded to f32.
inline Tensor normal(const Shape& shape, DType dtype = f32) {
  const RandomKey key{.seed = 5};
  std::vector<double> values;
  for (int64_t i = 0; i < shape.numel(); ++i)
    values.push_back(normal_from_bits(key.bits(2 * i), key.bits(2 * i + 1))[0]);
  if (dtype == f64) return Tensor::from(values, shape);
  return Tensor::from(std::vector<float>(values.begin(), values.end()), shape);
}

inline Tensor transposed(const Tensor& x) {
  return Tensor::view(x.storage(), x.offset(), {x.size(1), x.size(0)},
                      {x.strides()[1], x.strides()[0]}, x.dtype());
}

struct Threads {  // restores the setting
  int before = num_threads();
  ~Threads() { set_num_threads(before); }
};

/// The numbers that `compute` returns, on 1, 2 and 4 threads.
template <class Compute>
std::vector<std::vector<float>> on_several_threads(Compute compute) {
  const Threads restore;
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 4}) {
    set_num_threads(threads);
    results.push_back(compute());
  }
  return results;
}

}  // namespace tendril::testing
