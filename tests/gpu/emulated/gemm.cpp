#include "gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include <tendril/core/half.h>

namespace emulated {
namespace {

// Tiles of D are the unit of work. A tile's operands are first converted to the type of the sums,
// in panels of as many rows (columns) as the innermost loop keeps sums of in registers.
constexpr int64_t kTile = 96, kPanelColumns = 6;

template <class C>
struct Lanes {  // in memory that is aligned as C is
  using Type [[gnu::vector_size(32), gnu::aligned(alignof(C)), gnu::may_alias]] = C;
};
template <class C>
constexpr int64_t kLanes = 32 / sizeof(C);
template <class C>
constexpr int64_t kPanelRows = 2 * kLanes<C>;

// ---------------------------------------------------------------- the innermost loop

// The panels are ours: the address sanitizer has nothing to find here but would slow it down.
#define PANEL_FUNCTION __attribute__((no_sanitize("address")))

template <class C>
[[gnu::always_inline]] PANEL_FUNCTION inline void multiply_panels(int64_t k, const C* a, const C* b,
                                                                  C* sums) {
  using Vector = typename Lanes<C>::Type;
  Vector sum[kPanelColumns][2] = {};
  for (int64_t l = 0; l < k; ++l, a += kPanelRows<C>, b += kPanelColumns) {
    const Vector* rows = reinterpret_cast<const Vector*>(a);
    const Vector upper = rows[0], lower = rows[1];
#pragma GCC unroll 6
    for (int64_t j = 0; j < kPanelColumns; ++j) {
      sum[j][0] += upper * b[j];
      sum[j][1] += lower * b[j];
    }
  }
  Vector* to = reinterpret_cast<Vector*>(sums);
#pragma GCC unroll 6
  for (int64_t j = 0; j < kPanelColumns; ++j) to[2 * j] = sum[j][0], to[2 * j + 1] = sum[j][1];
}

template <class C>
PANEL_FUNCTION void multiply_panels_anywhere(int64_t k, const C* a, const C* b, C* sums) {
  multiply_panels(k, a, b, sums);
}

#ifdef __x86_64__
template <class C>
PANEL_FUNCTION __attribute__((target("avx2,fma"))) void multiply_panels_avx2(int64_t k, const C* a,
                                                                             const C* b, C* sums) {
  multiply_panels(k, a, b, sums);
}

template <class C>
auto best_multiply_panels() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
             ? &multiply_panels_avx2<C>
             : &multiply_panels_anywhere<C>;
}
#else
template <class C>
auto best_multiply_panels() {
  return &multiply_panels_anywhere<C>;
}
#endif

// ---------------------------------------------------------------- operands

float rounded_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0xFFFu + (bits >> 13 & 1u)) & ~0x1FFFu;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Element (i, l) of an operand, where i counts rows of op(A) or columns of op(B), and l terms.
template <class T>
struct Source {
  const T* data;
  int64_t item_stride, term_stride;
};

// The same terms, the last one first.
template <class T>
Source<T> reversed(const Source<T>& x, int64_t terms) {
  return {x.data + (terms - 1) * x.term_stride, x.item_stride, -x.term_stride};
}

// Items [0, count) in panels of kItems, each term by term; absent items are 0.
template <class C, int64_t kItems, class T>
void pack(C* to, const Source<T>& from, int64_t count, int64_t k, bool tf32) {
  for (int64_t first = 0; first < count; first += kItems, to += kItems * k) {
    const int64_t items = std::min(kItems, count - first);
    if (items < kItems) std::fill(to, to + kItems * k, C{0});
    const T* data = from.data + first * from.item_stride;
    if (from.item_stride == 1) {
      for (int64_t l = 0; l < k; ++l)
        for (int64_t i = 0; i < items; ++i)
          to[l * kItems + i] = static_cast<C>(data[l * from.term_stride + i]);
    } else {
      for (int64_t i = 0; i < items; ++i)
        for (int64_t l = 0; l < k; ++l)
          to[l * kItems + i] = static_cast<C>(data[i * from.item_stride + l * from.term_stride]);
    }
    if constexpr (std::is_same_v<C, float>)
      if (tf32) std::transform(to, to + kItems * k, to, rounded_to_tf32);
  }
}

// ---------------------------------------------------------------- results

template <class C>
C gelu(C x) {
  const C u = C(0.7978845608028654) * (x + C(0.044715) * x * x * x);  // sqrt(2 / pi)
  return C(0.5) * x * (C(1) + std::tanh(u));
}

template <class C>
C gelu_slope(C x) {
  const C t = std::tanh(C(0.7978845608028654) * (x + C(0.044715) * x * x * x));
  const C du = C(0.7978845608028654) * (C(1) + C(0.134145) * x * x);
  return C(0.5) * (C(1) + t) + C(0.5) * x * (C(1) - t * t) * du;
}

// One element of D from its sum.
template <class C, class Out>
struct Results {
  const Product& p;
  C alpha = static_cast<C>(p.alpha), beta = static_cast<C>(p.beta);
  bool has_bias =
      p.epilogue == CUBLASLT_EPILOGUE_BIAS || p.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  bool is_gelu =
      p.epilogue == CUBLASLT_EPILOGUE_GELU_AUX || p.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;

  void store(C sum, int64_t batch, int64_t row, int64_t column) const {
    C x = alpha * sum;
    if (beta != C{0})
      x += beta * static_cast<C>(static_cast<const Out*>(
                      p.c.data)[batch * p.c.batch_stride + column * p.c.ld + row]);
    if (has_bias) x += static_cast<C>(static_cast<const Out*>(p.bias)[row]);
    Out* aux = static_cast<Out*>(p.aux);
    if (aux) aux += batch * p.aux_batch_stride + column * p.aux_ld + row;
    if (is_gelu) {
      *aux = static_cast<Out>(x);
      x = gelu(x);
    } else if (p.epilogue == CUBLASLT_EPILOGUE_DGELU) {
      x *= gelu_slope(static_cast<C>(*aux));
    }
    static_cast<Out*>(p.d)[batch * p.d_batch_stride + column * p.d_ld + row] = static_cast<Out>(x);
  }
};

// Rows [row, row + rows) and columns [column, column + columns) of D.
template <class C, class In, class Out>
void multiply_tile(const Product& p, int64_t batch, int64_t row, int64_t column) {
  thread_local std::vector<C> left, right;
  const int64_t rows = std::min(kTile, p.m - row), columns = std::min(kTile, p.n - column);
  const int64_t room = (kTile + kPanelRows<C>)*p.k;
  left.resize(std::max(left.size(), static_cast<size_t>(room)));
  right.resize(std::max(right.size(), static_cast<size_t>(room)));

  Source<In> a{static_cast<const In*>(p.a.data) + batch * p.a.batch_stride, 1, p.a.ld};
  if (p.transpose_a) std::swap(a.item_stride, a.term_stride);
  a.data += row * a.item_stride;
  if (p.backward) a = reversed(a, p.k);
  pack<C, kPanelRows<C>>(left.data(), a, rows, p.k, p.tf32);
  Source<In> b{static_cast<const In*>(p.b.data) + batch * p.b.batch_stride, p.b.ld, 1};
  if (p.transpose_b) std::swap(b.item_stride, b.term_stride);
  b.data += column * b.item_stride;
  if (p.backward) b = reversed(b, p.k);
  pack<C, kPanelColumns>(right.data(), b, columns, p.k, p.tf32);

  static const auto sums_of = best_multiply_panels<C>();
  const Results<C, Out> results{p};
  C sums[kPanelColumns * kPanelRows<C>];
  for (int64_t j = 0; j < columns; j += kPanelColumns)
    for (int64_t i = 0; i < rows; i += kPanelRows<C>) {
      sums_of(p.k, left.data() + i * p.k, right.data() + j * p.k, sums);
      for (int64_t jj = 0; jj < std::min(kPanelColumns, columns - j); ++jj)
        for (int64_t ii = 0; ii < std::min(kPanelRows<C>, rows - i); ++ii)
          results.store(sums[jj * kPanelRows<C> + ii], batch, row + i + ii, column + j + jj);
    }
}

template <class C, class In, class Out>
void multiply_all(const Product& p) {
  const int64_t tiles_down = (p.m + kTile - 1) / kTile, tiles_across = (p.n + kTile - 1) / kTile;
  const int64_t tiles = tiles_down * tiles_across * p.batch;
#pragma omp parallel for schedule(dynamic) if (p.m * p.n * p.k * p.batch > 200'000)
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t within = tile % (tiles_down * tiles_across);
    multiply_tile<C, In, Out>(p, tile / (tiles_down * tiles_across), within % tiles_down * kTile,
                              within / tiles_down * kTile);
  }
}

template <class In>
void multiply_16_bit(const Product& p) {
  if (p.out == CUDA_R_32F)
    multiply_all<float, In, float>(p);
  else
    multiply_all<float, In, In>(p);
}

}  // namespace

void multiply(const Product& p) {
  switch (p.in) {
    case CUDA_R_64F:
      return multiply_all<double, double, double>(p);
    case CUDA_R_32F:
      return multiply_all<float, float, float>(p);
    case CUDA_R_16F:
      return multiply_16_bit<tendril::float16>(p);
    case CUDA_R_16BF:
      return multiply_16_bit<tendril::bfloat16>(p);
  }
}

}  // namespace emulated
