// Sums and what is made of them: sum, mean, var, std.
#include <tendril/core/ops/reduce.h>

#include <tendril/core/ops/reduce_float.cuh>

namespace tendril::ops::cuda {
namespace {

using ::tendril::cpu::Term;

// Sums of integers wrap around at 64 bits.
struct IntegerSum {
  using Element = int64_t;
  using Partial = uint64_t;

  int64_t* out = nullptr;  // one of the two
  float* mean = nullptr;
  double divisor = 1.0;

  __device__ uint64_t identity() const { return 0; }
  __device__ NoContext context(int64_t) const { return {}; }
  template <int N>
  __device__ void add(uint64_t& sum, const Vector<int64_t, N>& values, NoContext, int64_t,
                      int64_t) const {
#pragma unroll
    for (int k = 0; k < N; ++k) sum += static_cast<uint64_t>(values.v[k]);
  }
  __device__ void combine(uint64_t& a, uint64_t b) const { a += b; }
  __device__ void write(int64_t result, uint64_t total) const {
    const auto value = static_cast<int64_t>(total);
    if (mean)
      mean[result] = static_cast<float>(static_cast<double>(value) / divisor);
    else
      out[result] = value;
  }
};

// The mean of the values of each result in f64, shaped like a result that keeps its axes.
template <class T>
Tensor means(const char* op, const Tensor& x, const Shape& axes) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor mean = Tensor::empty(reduced_shape(x.shape(), axes, true), f64, x.device());
  FloatSum<T> sum{.exact = mean.data<double>()};
  sum.divisor = static_cast<double>(layout.count);
  reduce(op, x, layout, sum);
  return mean;
}

double divisor_of(const ReduceLayout& layout, int64_t correction) {
  return std::max(static_cast<double>(layout.count) - static_cast<double>(correction), 0.0);
}

// The sum, or the mean.
Tensor total(const char* op, const Tensor& x, const Shape& axes, bool keepdim, bool average) {
  const Tensor in = wide(x);
  const ReduceLayout layout(in, axes, /*any_order=*/true);
  const DType dtype = is_floating(x.dtype()) ? x.dtype() : average ? f32 : i64;
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), dtype, x.device());
  const double divisor = average ? static_cast<double>(layout.count) : 1.0;
  if (!is_floating(x.dtype())) {
    IntegerSum sum{.divisor = divisor};
    (average ? void(sum.mean = y.data<float>()) : void(sum.out = y.data<int64_t>()));
    reduce(op, in, layout, sum);
  } else {
    visit_floating(op, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      FloatSum<T> sum{.out = y.data<T>()};
      sum.divisor = divisor;
      reduce(op, in, layout, sum);
    });
  }
  return y;
}

struct Quotient {
  double divisor;
  __device__ double operator()(double g, double, double) const { return g / divisor; }
};

// dx = 2 g (x - mean) / divisor; g is already divided by 2 y for a root y.
struct Deviation {
  double divisor;
  __device__ double operator()(double x, double g, double mean) const {
    return 2.0 * g / divisor * (x - mean);
  }
};
struct HalfOver {
  __device__ double operator()(double g, double root, double) const {
    return root == 0.0 ? 0.0 : g / (2.0 * root);
  }
};

}  // namespace

Tensor sum(const Tensor& x, const Shape& axes, bool keepdim) {
  return total("sum", x, axes, keepdim, /*average=*/false);
}

Tensor mean(const Tensor& x, const Shape& axes, bool keepdim) {
  return total("mean", x, axes, keepdim, /*average=*/true);
}

Tensor mean_backward(const Tensor& g, int64_t count) {
  return visit_floating("mean", g.dtype(), [&](auto tag) {
    return map<typename decltype(tag)::type, double>("mean", g, {}, {},
                                                     Quotient{static_cast<double>(count)});
  });
}

Tensor var(const Tensor& x, const Shape& axes, bool keepdim, int64_t correction, bool root) {
  const char* op = root ? "std" : "var";
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype(), x.device());
  visit_floating(op, x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Tensor mean = means<T>(op, x, axes);
    FloatSum<T> squares{.out = y.data<T>(), .term = Term::square};
    squares.divisor = divisor_of(layout, correction);
    squares.root = root;
    squares.mean = mean.data<double>();
    squares.count = layout.count;
    reduce(op, x, layout, squares);
  });
  return y;
}

Tensor var_backward(const Tensor& g, const Tensor& x, const Tensor& y, const Shape& axes,
                    int64_t correction) {
  const double divisor = divisor_of(ReduceLayout(x, axes, /*any_order=*/true), correction);
  return visit_floating("var", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    Tensor weight = g;
    if (y.defined()) weight = map<double, double>("std", cast(g, f64), y, {}, HalfOver{});
    return map<T, double>("var", x, spread(weight, x, axes),
                          spread(means<T>("var", x, axes), x, axes), Deviation{divisor});
  });
}

}  // namespace tendril::ops::cuda
