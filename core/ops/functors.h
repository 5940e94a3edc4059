// Every pointwise operation as a functor: its value and its derivative, for CPU loops and CUDA
// kernels.
//
//   unary   value(x), grad(s, g): s is the saved input or output, as the row in ops.def says
//   binary  value(a, b), grad_a(a, b, g), grad_b(a, b, g); a_uses and b_uses say which operands the
//           two gradients read, so that nothing else is saved
//   compare value(a, b)
// T is float, double or int64_t. Conditions are written so that NaN reaches the result.
#pragma once

#include <tendril/core/cpu/short_float.h>
#include <tendril/core/cpu/vecmath.h>

namespace tendril::ops {

#define FUNCTOR      \
  template <class T> \
  VEC_INLINE static
#define INTEGER VEC_INLINE static int64_t
// T may be vec::ShortFloat too: +, -, * and vec::sigmoid are all there is.
#define SHORT_TOO static constexpr bool kShortToo = true

// A double parameter as the number that is computed with. One beyond the integers (infinity above
// all) means the last of them.
template <class T>
VEC_INLINE T parameter_as(double parameter) {
  if constexpr (sizeof(T) == 8 && T(0.5) == T(0)) {
    if (parameter >= 0x1p63) return INT64_MAX;
    if (parameter <= -0x1p63) return INT64_MIN;
  }
  return static_cast<T>(parameter);
}

// Integers wrap around in 64 unsigned bits, where overflow is defined.
VEC_INLINE uint64_t modular(int64_t x) { return static_cast<uint64_t>(x); }

struct Neg {
  FUNCTOR T value(T x) { return -x; }
  INTEGER value(int64_t x) { return static_cast<int64_t>(-modular(x)); }
  FUNCTOR T grad(T, T g) { return -g; }
};
struct Abs {
  FUNCTOR T value(T x) { return x < T(0) ? -x : x; }
  INTEGER value(int64_t x) { return x < 0 ? Neg::value(x) : x; }
  FUNCTOR T grad(T x, T g) { return x > T(0) ? g : x < T(0) ? -g : T(0); }
};
struct Exp {
  FUNCTOR T value(T x) { return vec::exp(x); }
  FUNCTOR T grad(T y, T g) { return g * y; }
};
struct Expm1 {
  FUNCTOR T value(T x) { return std::expm1(x); }
  FUNCTOR T grad(T y, T g) { return g * (y + T(1)); }
};
struct Log {
  FUNCTOR T value(T x) { return vec::log(x); }
  FUNCTOR T grad(T x, T g) { return g / x; }
};
struct Log1p {
  FUNCTOR T value(T x) { return std::log1p(x); }
  FUNCTOR T grad(T x, T g) { return g / (T(1) + x); }
};
struct Sqrt {
  FUNCTOR T value(T x) { return std::sqrt(x); }
  FUNCTOR T grad(T y, T g) { return T(0.5) * g / y; }
};
struct Rsqrt {
  FUNCTOR T value(T x) { return T(1) / std::sqrt(x); }
  FUNCTOR T grad(T y, T g) { return T(-0.5) * g * y * y * y; }
};
struct Square {
  FUNCTOR T value(T x) { return x * x; }
  INTEGER value(int64_t x) { return static_cast<int64_t>(modular(x) * modular(x)); }
  FUNCTOR T grad(T x, T g) { return T(2) * x * g; }
};
struct Reciprocal {
  FUNCTOR T value(T x) { return T(1) / x; }
  FUNCTOR T grad(T y, T g) { return -g * y * y; }
};
struct Sin {
  FUNCTOR T value(T x) { return std::sin(x); }
  FUNCTOR T grad(T x, T g) { return g * std::cos(x); }
};
struct Cos {
  FUNCTOR T value(T x) { return std::cos(x); }
  FUNCTOR T grad(T x, T g) { return -g * std::sin(x); }
};
struct Tanh {
  FUNCTOR T value(T x) { return vec::tanh(x); }
  FUNCTOR T grad(T y, T g) { return g * (T(1) - y * y); }
};
struct Sigmoid {
  SHORT_TOO;
  FUNCTOR T value(T x) { return vec::sigmoid(x); }
  FUNCTOR T grad(T y, T g) { return g * y * (T(1) - y); }
};
struct Relu {
  FUNCTOR T value(T x) { return x < T(0) ? T(0) : x; }
  FUNCTOR T grad(T y, T g) { return y > T(0) ? g : T(0); }
};
struct LeakyRelu {
  FUNCTOR T value(T x, T slope) { return x < T(0) ? slope * x : x; }
  FUNCTOR T grad(T x, T g, T slope) { return x < T(0) ? slope * g : g; }
};
struct ClampMin {
  FUNCTOR T value(T x, T low) { return x < low ? low : x; }
  FUNCTOR T grad(T x, T g, T low) { return x < low ? T(0) : g; }
};
struct ClampMax {
  FUNCTOR T value(T x, T high) { return x > high ? high : x; }
  FUNCTOR T grad(T x, T g, T high) { return x > high ? T(0) : g; }
};
struct Gelu {  // x P(X <= x) for a standard normal X
  FUNCTOR T value(T x) { return T(0.5) * x * (T(1) + vec::erf(x * T(0.7071067811865476))); }
  FUNCTOR T grad(T x, T g) {
    const T probability = T(0.5) * (T(1) + vec::erf(x * T(0.7071067811865476)));
    const T density = T(0.3989422804014327) * vec::exp(T(-0.5) * x * x);
    return g * (probability + x * density);
  }
};
struct GeluTanh {  // x/2 (1 + tanh(u)) = x s(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), s the sigmoid
  SHORT_TOO;
  FUNCTOR T gate(T x) {
    return vec::sigmoid(T(1.5957691216057308) * (x + T(0.044715) * x * x * x));
  }
  FUNCTOR T value(T x) { return x * gate(x); }
  FUNCTOR T grad(T x, T g) {
    const T s = gate(x);
    const T slope = T(1.5957691216057308) * (T(1) + T(0.134145) * x * x);
    return g * (s + x * s * (T(1) - s) * slope);
  }
};
struct Silu {
  SHORT_TOO;
  FUNCTOR T value(T x) { return x * vec::sigmoid(x); }
  FUNCTOR T grad(T x, T g) {
    const T s = vec::sigmoid(x);
    return g * s * (T(1) + x * (T(1) - s));
  }
};
struct Softplus {  // log(1 + e^x) without overflow
  FUNCTOR T value(T x) { return (x > T(0) ? x : T(0)) + std::log1p(vec::exp(x > T(0) ? -x : x)); }
  FUNCTOR T grad(T x, T g) { return g * vec::sigmoid(x); }
};
struct Erf {
  FUNCTOR T value(T x) { return vec::erf(x); }
  FUNCTOR T grad(T x, T g) { return g * T(1.1283791670955126) * vec::exp(-x * x); }
};

struct Sign {
  FUNCTOR T value(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x; }
};
struct Floor {
  FUNCTOR T value(T x) { return std::floor(x); }
  INTEGER value(int64_t x) { return x; }
};
struct Ceil {
  FUNCTOR T value(T x) { return std::ceil(x); }
  INTEGER value(int64_t x) { return x; }
};
struct Round {  // half to even
  FUNCTOR T value(T x) { return std::rint(x); }
  INTEGER value(int64_t x) { return x; }
};

enum Uses : unsigned { kUsesNothing = 0, kUsesA = 1, kUsesB = 2, kUsesBoth = 3 };

struct Add {
  static constexpr Uses a_uses = kUsesNothing, b_uses = kUsesNothing;
  FUNCTOR T value(T a, T b) { return a + b; }
  INTEGER value(int64_t a, int64_t b) { return static_cast<int64_t>(modular(a) + modular(b)); }
  FUNCTOR T grad_a(T, T, T g) { return g; }
  FUNCTOR T grad_b(T, T, T g) { return g; }
};
struct Sub {
  static constexpr Uses a_uses = kUsesNothing, b_uses = kUsesNothing;
  FUNCTOR T value(T a, T b) { return a - b; }
  INTEGER value(int64_t a, int64_t b) { return static_cast<int64_t>(modular(a) - modular(b)); }
  FUNCTOR T grad_a(T, T, T g) { return g; }
  FUNCTOR T grad_b(T, T, T g) { return -g; }
};
struct Mul {
  static constexpr Uses a_uses = kUsesB, b_uses = kUsesA;
  FUNCTOR T value(T a, T b) { return a * b; }
  INTEGER value(int64_t a, int64_t b) { return static_cast<int64_t>(modular(a) * modular(b)); }
  FUNCTOR T grad_a(T, T b, T g) { return g * b; }
  FUNCTOR T grad_b(T a, T, T g) { return g * a; }
};
struct Div {
  static constexpr Uses a_uses = kUsesB, b_uses = kUsesBoth;
  FUNCTOR T value(T a, T b) { return a / b; }
  FUNCTOR T grad_a(T, T b, T g) { return g / b; }
  FUNCTOR T grad_b(T a, T b, T g) { return -g * a / (b * b); }
};
struct Pow {
  static constexpr Uses a_uses = kUsesBoth, b_uses = kUsesBoth;
  FUNCTOR T value(T a, T b) { return std::pow(a, b); }
  FUNCTOR T grad_a(T a, T b, T g) { return b == T(0) ? T(0) : g * b * std::pow(a, b - T(1)); }
  FUNCTOR T grad_b(T a, T b, T g) {
    return a == T(0) && b >= T(0) ? T(0) : g * std::pow(a, b) * std::log(a);
  }
};
struct Maximum {  // a tie gives each operand half of the gradient
  static constexpr Uses a_uses = kUsesBoth, b_uses = kUsesBoth;
  FUNCTOR T value(T a, T b) { return a > b || a != a ? a : b; }
  FUNCTOR T grad_a(T a, T b, T g) { return a > b || a != a ? g : a == b ? g * T(0.5) : T(0); }
  FUNCTOR T grad_b(T a, T b, T g) { return a > b || a != a ? T(0) : a == b ? g * T(0.5) : g; }
};
struct Minimum {
  static constexpr Uses a_uses = kUsesBoth, b_uses = kUsesBoth;
  FUNCTOR T value(T a, T b) { return a < b || a != a ? a : b; }
  FUNCTOR T grad_a(T a, T b, T g) { return a < b || a != a ? g : a == b ? g * T(0.5) : T(0); }
  FUNCTOR T grad_b(T a, T b, T g) { return a < b || a != a ? T(0) : a == b ? g * T(0.5) : g; }
};

struct Eq {
  FUNCTOR bool value(T a, T b) { return a == b; }
};
struct Ne {
  FUNCTOR bool value(T a, T b) { return a != b; }
};
struct Lt {
  FUNCTOR bool value(T a, T b) { return a < b; }
};
struct Le {
  FUNCTOR bool value(T a, T b) { return a <= b; }
};
struct Gt {
  FUNCTOR bool value(T a, T b) { return a > b; }
};
struct Ge {
  FUNCTOR bool value(T a, T b) { return a >= b; }
};
struct LogicalAnd {
  FUNCTOR bool value(T a, T b) { return (a != T(0)) & (b != T(0)); }
};
struct LogicalOr {
  FUNCTOR bool value(T a, T b) { return (a != T(0)) | (b != T(0)); }
};
struct LogicalXor {
  FUNCTOR bool value(T a, T b) { return (a != T(0)) ^ (b != T(0)); }
};

#undef SHORT_TOO
#undef FUNCTOR
#undef INTEGER

}  // namespace tendril::ops
