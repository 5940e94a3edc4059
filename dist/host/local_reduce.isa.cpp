#include <tendril/core/cpu/half_convert.h>
#include <tendril/dist/host/local_reduce.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

using dist::LocalReduction;
using dist::ReduceOp;

constexpr int64_t kBlock = 1024;  // numbers whose running result stays in the L1 cache

// Integers are added without a sign, which may wrap.
template <class T>
struct Running {
  using type = T;
};
template <>
struct Running<int64_t> {
  using type = uint64_t;
};
template <>
struct Running<int32_t> {
  using type = uint32_t;
};

struct Sum {
  template <class T, class X>
  ISA_INLINE T apply(T a, X x) {
    return static_cast<T>(a + static_cast<T>(x));
  }
};
struct Max {
  template <class T>
  ISA_INLINE T apply(T a, T x) {
    return x > a || x != x ? x : a;
  }
};
struct Min {
  template <class T>
  ISA_INLINE T apply(T a, T x) {
    return x < a || x != x ? x : a;
  }
};

// Numbers of a 16-bit format come through `buffer` as floats; others stay where they are.
template <class T>
ISA_INLINE const auto* readable(const T* from, float* buffer, int64_t count) {
  if constexpr (is_half<T>) {
    convert_run(from, buffer, count);
    return static_cast<const float*>(buffer);
  } else {
    return from;
  }
}

template <class Op, class From, class Compute>
ISA_INLINE void combine(const LocalReduction& r, int64_t begin, int64_t count, Compute* running,
                        float* buffer) {
  for (int rank = 0; rank < r.ranks; ++rank) {
    const auto* x = readable(static_cast<const From*>(r.sources[rank]) + begin, buffer, count);
    if (rank == 0) {
      for (int64_t i = 0; i < count; ++i) running[i] = static_cast<Compute>(x[i]);
    } else {
      for (int64_t i = 0; i < count; ++i)
        running[i] = Op::apply(running[i], static_cast<Compute>(x[i]));
    }
  }
}

template <class Op, class From, class To>
ISA_INLINE void reduce(const LocalReduction& r) {
  using Compute = typename Running<compute_t<To>>::type;
  // A maximum needs the sign.
  using Value = std::conditional_t<std::is_same_v<Op, Sum>, Compute, compute_t<To>>;
  Value running[kBlock];
  float buffer[kBlock];
  for (int64_t begin = 0; begin < r.count; begin += kBlock) {
    const int64_t count = r.count - begin < kBlock ? r.count - begin : kBlock;
    combine<Op, From>(r, begin, count, running, buffer);
    if constexpr (is_floating(dtype_of<To>())) {
      if (r.op == ReduceOp::avg)
        for (int64_t i = 0; i < count; ++i) running[i] /= static_cast<Value>(r.ranks);
    }
    To* out = static_cast<To*>(r.out) + begin;
    if constexpr (is_half<To>)
      convert_run(running, out, count);
    else
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<To>(running[i]);
  }
}

template <class From, class To>
ISA_INLINE void reduce_as(const LocalReduction& r) {
  switch (r.op) {
    case ReduceOp::sum:
    case ReduceOp::avg:
      return reduce<Sum, From, To>(r);
    case ReduceOp::max:
      return reduce<Max, From, To>(r);
    case ReduceOp::min:
      return reduce<Min, From, To>(r);
  }
}

template <class From>
ISA_INLINE void reduce_from(const LocalReduction& r) {
  if (r.to == r.from) return reduce_as<From, From>(r);
  if constexpr (is_half<From>)
    if (r.to == DType::f32) return reduce_as<From, float>(r);
  if constexpr (is_half<From> || std::is_same_v<From, float>) return reduce_as<From, double>(r);
}

}  // namespace

void reduce_locally(const LocalReduction& r) {
  switch (r.from) {
    case DType::f64:
      return reduce_from<double>(r);
    case DType::f32:
      return reduce_from<float>(r);
    case DType::bf16:
      return reduce_from<bfloat16>(r);
    case DType::f16:
      return reduce_from<float16>(r);
    case DType::i64:
      return reduce_from<int64_t>(r);
    case DType::i32:
      return reduce_from<int32_t>(r);
    case DType::u8:
      return reduce_from<uint8_t>(r);
    case DType::bool_:
      break;  // refused by ProcessGroup
  }
}

}  // namespace tendril::cpu::TENDRIL_ISA
