// Inner loops of the reductions, once per instruction set; see reduce_kernels.h.
#include <cstdint>
#include <cstring>

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/ops/reduce_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

typedef float Floats __attribute__((vector_size(kBytes)));
typedef double Doubles __attribute__((vector_size(kBytes)));
typedef uint32_t Words __attribute__((vector_size(kBytes)));
typedef uint16_t Shorts __attribute__((vector_size(kBytes / 2)));
typedef float HalfFloats __attribute__((vector_size(kBytes / 2)));

template <class C>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = Floats;
};
template <>
struct VectorOf<double> {
  using type = Doubles;
};
template <class T>
using Vector = typename VectorOf<compute_t<T>>::type;
template <class T>
constexpr int64_t kWidth = kBytes / static_cast<int64_t>(sizeof(compute_t<T>));

template <class V, class S>
ISA_INLINE V read(const S* x) {
  V v;
  memcpy(&v, x, sizeof v);
  return v;
}

ISA_INLINE Doubles load(const double* x) { return read<Doubles>(x); }
ISA_INLINE Floats load(const float* x) { return read<Floats>(x); }
ISA_INLINE Floats load(const bfloat16* x) {
  return (Floats)(__builtin_convertvector(read<Shorts>(x), Words) << 16);
}
// Moves exponent and mantissa into place; the multiplication by 2^112 corrects the exponent's bias
// and normalises subnormals. Infinity and NaN get the largest exponent back.
ISA_INLINE Floats load(const float16* x) {
  const Words half = __builtin_convertvector(read<Shorts>(x), Words);
  const Floats scaled = (Floats)((half & 0x7FFFu) << 13) * 0x1p112f;
  const Words special = (Words)((half & 0x7C00u) == 0x7C00u) & 0x7F800000u;
  return (Floats)((Words)scaled | special | ((half & 0x8000u) << 16));
}

ISA_INLINE double load_one(const double* x) { return *x; }
ISA_INLINE float load_one(const float* x) { return *x; }
ISA_INLINE float load_one(const bfloat16* x) {
  return __builtin_bit_cast(float, uint32_t{x->bits} << 16);
}
ISA_INLINE float load_one(const float16* x) {
  const uint32_t half = x->bits;
  const float scaled = __builtin_bit_cast(float, (half & 0x7FFFu) << 13) * 0x1p112f;
  const uint32_t special = (half & 0x7C00u) == 0x7C00u ? 0x7F800000u : 0u;
  return __builtin_bit_cast(
      float, __builtin_bit_cast(uint32_t, scaled) | special | ((half & 0x8000u) << 16));
}

template <Term term, class V>  // V: a vector or a scalar
ISA_INLINE V apply(V x, V shift) {
  if constexpr (term == Term::absolute) return x < 0 ? -x : x;
  if constexpr (term == Term::square) return (x - shift) * (x - shift);
  return x;
}

template <Term term, class T, class V>
ISA_INLINE V tree_of_eight(const T* x, int64_t stride, V shift) {
  V t[8];
  for (int i = 0; i < 8; ++i) t[i] = apply<term>(load(x + i * stride), shift);
  return ((t[0] + t[1]) + (t[2] + t[3])) + ((t[4] + t[5]) + (t[6] + t[7]));
}

// Double sums of a vector's elements: two vectors for floats, one for doubles.
struct WideFloats {
  Doubles low, high;
  __attribute__((always_inline)) void add(Floats v) {
    HalfFloats half[2];
    memcpy(half, &v, sizeof v);
    low += __builtin_convertvector(half[0], Doubles);
    high += __builtin_convertvector(half[1], Doubles);
  }
};
struct WideDoubles {
  Doubles low;
  __attribute__((always_inline)) void add(Doubles v) { low += v; }
};
template <class T>
struct WideOf {
  using type = WideFloats;
};
template <>
struct WideOf<double> {
  using type = WideDoubles;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <Term term, class T>
ISA_INLINE double sum_row_of(const T* x, int64_t n, compute_t<T> shift) {
  using V = Vector<T>;
  constexpr int64_t W = kWidth<T>;
  const V shifts = V{} + shift;
  Wide<T> wide = {};
  int64_t i = 0;
  for (; i + 8 * W <= n; i += 8 * W) wide.add(tree_of_eight<term>(x + i, W, shifts));
  for (; i + W <= n; i += W) wide.add(apply<term>(load(x + i), shifts));
  double sums[W], total = 0;
  memcpy(sums, &wide, sizeof wide);
  static_assert(sizeof wide == sizeof sums);
  for (double sum : sums) total += sum;
  for (; i < n; ++i) total += apply<term>(load_one(x + i), shift);
  return total;
}

template <Term term, class T>
ISA_INLINE void sum_columns_of(const T* x, int64_t stride, int64_t rows, int64_t columns,
                               const compute_t<T>* shift, double* sums) {
  using V = Vector<T>;
  constexpr int64_t W = kWidth<T>;
  const int64_t blocked = rows / 8 * 8;
  int64_t dense = 0;
  for (; dense + W <= columns; dense += W) {
  }
  for (int64_t r = 0; r < rows; r += r < blocked ? 8 : 1) {
    const T* row = x + r * stride;
    for (int64_t c = 0; c < dense; c += W) {
      const V shifts = shift ? read<V>(shift + c) : V{};
      Wide<T> wide = read<Wide<T>>(sums + c);
      wide.add(r < blocked ? tree_of_eight<term>(row + c, stride, shifts)
                           : apply<term>(load(row + c), shifts));
      memcpy(sums + c, &wide, sizeof wide);
    }
  }
  for (int64_t c = dense; c < columns; ++c) {
    const compute_t<T> one = shift ? shift[c] : 0;
    for (int64_t r = 0; r < rows; ++r) sums[c] += apply<term>(load_one(x + r * stride + c), one);
  }
}

// `x` where it beats `best` or is NaN. A NaN in `best` is never beaten.
template <Extreme kind, class V>
ISA_INLINE V better(V best, V x) {
  if constexpr (kind == Extreme::max_absolute) x = x < 0 ? -x : x;
  if constexpr (kind == Extreme::min) return ((x < best) | (x != x)) ? x : best;
  return ((x > best) | (x != x)) ? x : best;
}

template <Extreme kind, class T>
ISA_INLINE compute_t<T> extreme_row_of(const T* x, int64_t n, compute_t<T> start) {
  using V = Vector<T>;
  constexpr int64_t W = kWidth<T>;
  compute_t<T> best = start;
  int64_t i = 0;
  if (n >= 4 * W) {
    V lanes[4];
    for (V& lane : lanes) lane = V{} + start;
    for (; i + 4 * W <= n; i += 4 * W)
      for (int k = 0; k < 4; ++k) lanes[k] = better<kind>(lanes[k], load(x + i + k * W));
    lanes[0] = better<kind>(better<kind>(lanes[0], lanes[1]), better<kind>(lanes[2], lanes[3]));
    for (int64_t k = 0; k < W; ++k) best = better<kind, compute_t<T>>(best, lanes[0][k]);
  }
  for (; i < n; ++i) best = better<kind>(best, load_one(x + i));
  return best;
}

template <Extreme kind, class T>
ISA_INLINE void extreme_columns_of(const T* x, int64_t stride, int64_t rows, int64_t columns,
                                   compute_t<T>* best) {
  using V = Vector<T>;
  constexpr int64_t W = kWidth<T>;
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = x + r * stride;
    int64_t c = 0;
    for (; c + W <= columns; c += W) {
      const V v = better<kind>(read<V>(best + c), load(row + c));
      memcpy(best + c, &v, sizeof v);
    }
    for (; c < columns; ++c) best[c] = better<kind>(best[c], load_one(row + c));
  }
}

}  // namespace

template <class T>
double sum_row(const T* x, int64_t n, Term term, compute_t<T> shift) {
  if (term == Term::square) return sum_row_of<Term::square>(x, n, shift);
  if (term == Term::absolute) return sum_row_of<Term::absolute>(x, n, shift);
  return sum_row_of<Term::value>(x, n, shift);
}

template <class T>
void sum_columns(const T* x, int64_t stride, int64_t rows, int64_t columns, Term term,
                 const compute_t<T>* shift, double* sums) {
  if (term == Term::square)
    return sum_columns_of<Term::square>(x, stride, rows, columns, shift, sums);
  if (term == Term::absolute)
    return sum_columns_of<Term::absolute>(x, stride, rows, columns, shift, sums);
  sum_columns_of<Term::value>(x, stride, rows, columns, shift, sums);
}

template <class T>
compute_t<T> extreme_row(const T* x, int64_t n, Extreme kind, compute_t<T> start) {
  if (kind == Extreme::max) return extreme_row_of<Extreme::max>(x, n, start);
  if (kind == Extreme::min) return extreme_row_of<Extreme::min>(x, n, start);
  return extreme_row_of<Extreme::max_absolute>(x, n, start);
}

template <class T>
void extreme_columns(const T* x, int64_t stride, int64_t rows, int64_t columns, Extreme kind,
                     compute_t<T>* best) {
  if (kind == Extreme::max) return extreme_columns_of<Extreme::max>(x, stride, rows, columns, best);
  if (kind == Extreme::min) return extreme_columns_of<Extreme::min>(x, stride, rows, columns, best);
  extreme_columns_of<Extreme::max_absolute>(x, stride, rows, columns, best);
}

template <class T>
double exp_sum_row(const T* x, int64_t n, compute_t<T> shift) {
  constexpr int64_t kBlock = 256;
  compute_t<T> terms[kBlock];
  double total = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t size = n - i < kBlock ? n - i : kBlock;
    for (int64_t k = 0; k < size; ++k) terms[k] = vec::exp(load_one(x + i + k) - shift);
    total += sum_row_of<Term::value>(terms, size, compute_t<T>(0));
  }
  return total;
}

#define INSTANTIATE(T)                                                                           \
  template double sum_row<T>(const T*, int64_t, Term, compute_t<T>);                             \
  template void sum_columns<T>(const T*, int64_t, int64_t, int64_t, Term, const compute_t<T>*,   \
                               double*);                                                         \
  template compute_t<T> extreme_row<T>(const T*, int64_t, Extreme, compute_t<T>);                \
  template void extreme_columns<T>(const T*, int64_t, int64_t, int64_t, Extreme, compute_t<T>*); \
  template double exp_sum_row<T>(const T*, int64_t, compute_t<T>);
INSTANTIATE(double)
INSTANTIATE(float)
INSTANTIATE(bfloat16)
INSTANTIATE(float16)
#undef INSTANTIATE

}  // namespace tendril::cpu::TENDRIL_ISA
