// Private to core: the innermost loops of pointwise ops over contiguous blocks, compiled once per
// instruction set from functors.h and ops.def.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/ops/op_list.h>

namespace tendril::cpu {

/// out[i] = f(in[0][i], in[1][i], ...; parameter) for i < n; out may be one of the inputs.
template <class T>
using BlockFunction = void (*)(int64_t n, const T* const* in, T* out, double parameter);

/// One loop in each computing type; null where the op is not defined for it.
struct BlockKernel {
  BlockFunction<float> f32 = nullptr;
  BlockFunction<double> f64 = nullptr;
  BlockFunction<int64_t> i64 = nullptr;
};

/// Which function of an op: unary ops have `value` (x) and `grad` (saved, g); binary ops `value`
/// (a, b), `grad` = d/da and `grad_b` = d/db (a, b, g).
enum class Part { value, grad, grad_b };

}  // namespace tendril::cpu

/// Op::where has one part: (condition, a, b) -> condition ? a : b.
TENDRIL_DECLARE_ISA(BlockKernel pointwise_kernel(Op op, Part part))
