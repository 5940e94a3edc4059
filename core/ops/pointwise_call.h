// Private to core: a pointwise operation with everything decided but the device.
#pragma once

#include <span>

#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/pointwise_kernels.h>

namespace tendril::ops {

/// out[i] = f(inputs[0][i], inputs[1][i], ...; parameter), where `op` and `part` name f.
struct PointwiseCall {
  Op op;
  tendril::cpu::Part part;
  DType compute;  // f64 computes in double, integers in int64_t, the rest in float
  std::span<const Operand> inputs;  // as many as f reads; each broadcasts to the result
  double parameter = 0.0;
};

/// The third column of ops.def: Real functions do not exist for integers.
enum class NumberKind { Real, Number };

}  // namespace tendril::ops
