// The products come from cuBLASLt; one pass over the wide tensors does all that stands between
// them. It is bound by memory: 16-byte accesses, each number read and written once.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/feed_forward_weights.h>
#include <tendril/core/ops/functors.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/op_list.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/cuda/product.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

using tendril::cuda::Epilogue;
using tendril::cuda::kVector;
using tendril::cuda::load_vector;
using tendril::cuda::store_vector;
using tendril::cuda::Vector;

constexpr int kThreads = 256, kColumnThreads = 128;

enum class Saves { Nothing, Input, Output };

// Calls body(functor, what its derivative reads) for the activation.
template <class Body>
void visit_activation(Op activation, Body&& body) {
  switch (activation) {
#define UNARY(op, F, kind, saves, ...) \
  case Op::op:                         \
    return body(F{}, std::integral_constant<bool, Saves::saves == Saves::Output>{});
#include <tendril/core/ops/ops.def>
    default:
      fail("[feed_forward] no such activation: ", name(activation));
  }
}

// f of a number of type T, and the derivative's part of it, in the type T is computed in.
template <class F, class T>
__device__ compute_t<T> value_of(compute_t<T> x) {
  if constexpr (is_half<T> && requires { F::kShortToo; })
    return F::value(vec::ShortFloat(x)).number;
  else
    return F::value(x);
}
template <class F, class T>
__device__ compute_t<T> gradient_of(compute_t<T> saved, compute_t<T> g) {
  if constexpr (is_half<T> && requires { F::kShortToo; })
    return F::grad(vec::ShortFloat(saved), vec::ShortFloat(g)).number;
  else
    return F::grad(saved, g);
}

// a = f(u), or f(z) u
template <class T, class F>
struct Activate {
  using C = compute_t<T>;
  const T *u, *z;  // z may be null
  T* a;            // may be u

  template <int N>
  __device__ void run(int64_t at) const {
    const auto us = load_vector<T, N>(u + at);
    Vector<T, N> as;
    if (z) {
      const auto zs = load_vector<T, N>(z + at);
#pragma unroll
      for (int i = 0; i < N; ++i)
        as.v[i] = convert<T>(value_of<F, T>(convert<C>(zs.v[i])) * convert<C>(us.v[i]));
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) as.v[i] = convert<T>(value_of<F, T>(convert<C>(us.v[i])));
    }
    store_vector<T, N>(a + at, as);
  }
};

// From da, which lies in du: a once more, du = da f'(u), or with a gate du = da f(z) and
// dz = da u f'(z).
template <class T, class F, bool kGradUsesOutput>
struct Derive {
  using C = compute_t<T>;
  const T *u, *z;  // z and dz may be null
  T *a, *du, *dz;

  // Returns du.
  template <int N>
  __device__ Vector<T, N> run(int64_t at) const {
    const auto us = load_vector<T, N>(u + at), das = load_vector<T, N>(du + at);
    Vector<T, N> as, dus;
    if (z) {
      const auto zs = load_vector<T, N>(z + at);
      Vector<T, N> dzs;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const C x = convert<C>(zs.v[i]), f = value_of<F, T>(x);
        const C up = convert<C>(us.v[i]), da = convert<C>(das.v[i]);
        as.v[i] = convert<T>(f * up);
        dus.v[i] = convert<T>(da * f);
        dzs.v[i] = convert<T>(gradient_of<F, T>(kGradUsesOutput ? f : x, da * up));
      }
      store_vector<T, N>(dz + at, dzs);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const C x = convert<C>(us.v[i]), f = value_of<F, T>(x);
        as.v[i] = convert<T>(f);
        dus.v[i] = convert<T>(gradient_of<F, T>(kGradUsesOutput ? f : x, convert<C>(das.v[i])));
      }
    }
    store_vector<T, N>(a + at, as);
    store_vector<T, N>(du + at, dus);
    return dus;
  }
};

// Each thread takes one vector; what is left after the last whole one goes element by element.
template <int N, class Pass>
__global__ void __launch_bounds__(kThreads) pass_kernel(Pass pass, int64_t count) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (at + N <= count)
    pass.template run<N>(at);
  else
    for (int64_t i = at; i < count; ++i) pass.template run<1>(i);
}

// The same over rows of `columns` elements, a multiple of N. Blocks (x, y): x over the columns, y
// over the rows, of which each takes every gridDim.y-th; partials[y][column] is their sum.
template <int N, class Pass, class C>
__global__ void __launch_bounds__(kColumnThreads)
    column_pass_kernel(Pass pass, int64_t rows, int64_t columns, C* partials) {
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x) * N;
  if (column >= columns) return;
  Vector<C, N> sums{};
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const auto values = pass.template run<N>(row * columns + column);
#pragma unroll
    for (int i = 0; i < N; ++i) sums.v[i] += convert<C>(values.v[i]);
  }
  store_vector<C, N>(partials + blockIdx.y * columns + column, sums);
}

// All tensors are dense; fresh ones are aligned, a saved one is where it was allocated.
template <class T, class Pass>
void launch(const Tensor& like, const Pass& pass) {
  constexpr int kWide = kVector<T>;
  const int64_t count = like.numel();
  if (count == 0) return;
  pass_kernel<kWide><<<tendril::cuda::blocks_for(count, int64_t{kThreads} * kWide), kThreads, 0,
                       tendril::cuda::stream(like.device())>>>(pass, count);
  TENDRIL_CUDA_CHECK_LAUNCH("feed_forward");
}

// The same for a pass whose results are to be summed down the columns of `like`, which has two
// axes; undefined, and nothing is done, where that would not pay.
template <class T, class Pass>
Tensor launch_with_column_sums(const Tensor& like, const Pass& pass) {
  using C = compute_t<T>;
  constexpr int kWide = kVector<T>, kResident = 2048 / kColumnThreads;
  constexpr int64_t kFewestRows = 1024;
  const int64_t rows = like.size(0), columns = like.size(1);
  if (rows < kFewestRows || columns % kWide != 0) return {};
  const unsigned across = tendril::cuda::blocks_for(columns, int64_t{kColumnThreads} * kWide);
  const int resident = kResident * tendril::cuda::properties(like.device()).multiprocessors;
  const unsigned down = std::clamp(static_cast<unsigned>(resident) / across, 1u, 65535u);
  const Tensor partials = Tensor::empty({static_cast<int64_t>(down), columns},
                                        accumulate_dtype(like.dtype()), like.device());
  column_pass_kernel<kWide>
      <<<dim3(across, down), kColumnThreads, 0, tendril::cuda::stream(like.device())>>>(
          pass, rows, columns, partials.data<C>());
  TENDRIL_CUDA_CHECK_LAUNCH("feed_forward");
  return sum(partials, {0});
}

template <class T>
T* pointer(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

template <class T, class F>
void launch_activate(const Tensor& u, const Tensor& z, const Tensor& a) {
  launch<T>(u, Activate<T, F>{pointer<T>(u), pointer<T>(z), pointer<T>(a)});
}

void activate_sums(Op activation, const Tensor& u, const Tensor& z, const Tensor& a) {
  visit_activation(activation, [&]<class F>(F, auto) {
    visit_floating("feed_forward", u.dtype(),
                   [&]<class T>(TypeTag<T>) { launch_activate<T, F>(u, z, a); });
  });
}

// Dense out (N, O) = x (N, I) weight (O, I)^T + bias.
bool multiply(const Tensor& x, const Tensor& weight, const Tensor& out,
              const tendril::cuda::ProductExtras& extras) {
  return tendril::cuda::product("feed_forward", x, transpose(weight, 0, 1), out, extras);
}

// The switch between two ways to the same numbers, for gelu_tanh of 16-bit tensors without a gate:
// cuBLASLt can apply the function (and its derivative) to the sums before they leave the
// multiprocessor, which saves a pass over memory but costs the product's kernel more than it saves
// on some shapes.
bool gelu_in_product(Op activation, const Tensor& u, const Tensor& z) {
  static const bool wanted = [] {
    const char* setting = std::getenv("TENDRIL_CUDA_GELU_IN_PRODUCT");
    return setting && std::string_view(setting) != "0";
  }();
  return wanted && activation == Op::gelu_tanh && !z.defined() && size_of(u.dtype()) == 2 &&
         u.size(1) % 8 == 0;
}

}  // namespace

// u (and z) from the rows of x; a, which may be u, is what the activation makes of them.
void activate(const Tensor& x, const FeedForwardWeights& w, Op activation, const Tensor& u,
              const Tensor& z, const Tensor& a) {
  if (gelu_in_product(activation, u, z) && !a.is_same(u) &&
      multiply(x, w.up, a, {.bias = w.up_bias, .epilogue = Epilogue::gelu, .aux = u}))
    return;
  multiply(x, w.up, u, {.bias = w.up_bias});
  if (z.defined()) multiply(x, w.gate, z, {.bias = w.gate_bias});
  activate_sums(activation, u, z, a);
}

// du (and dz) from the rows of g, and a; the sum of du's rows where that comes for free.
Tensor derive(const Tensor& g, const FeedForwardWeights& w, Op activation, const Tensor& u,
              const Tensor& z, const Tensor& a, const Tensor& du, const Tensor& dz,
              bool wants_row_sum) {
  const char* op = "feed_forward_backward";
  if (gelu_in_product(activation, u, z) &&
      tendril::cuda::product(op, g, w.down, du, {.epilogue = Epilogue::gelu_gradient, .aux = u})) {
    activate_sums(activation, u, z, a);
    return {};
  }
  tendril::cuda::product(op, g, w.down, du);  // da
  Tensor row_sum;
  visit_activation(activation, [&]<class F, bool kOutput>(F, std::bool_constant<kOutput>) {
    visit_floating(op, u.dtype(), [&]<class T>(TypeTag<T>) {
      const Derive<T, F, kOutput> pass{pointer<T>(u), pointer<T>(z), pointer<T>(a), pointer<T>(du),
                                       pointer<T>(dz)};
      if (wants_row_sum) row_sum = launch_with_column_sums<T>(u, pass);
      if (!row_sum.defined()) launch<T>(u, pass);
    });
  });
  return row_sum;
}

}  // namespace tendril::ops::cuda
