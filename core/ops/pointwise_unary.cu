#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {

void unary_value(const Tensor& out, const PointwiseCall& call) {
  switch (call.op) {
#define UNARY(op, F, kind, ...) \
  case Op::op:                  \
    return launch<UnaryValue<F>, NumberKind::kind>(out, call);
#define UNARY1(op, F, kind, ...) \
  case Op::op:                   \
    return launch<Unary1Value<F>, NumberKind::kind>(out, call);
#define UNARY_NONDIFF(op, F, kind, ...) \
  case Op::op:                          \
    return launch<UnaryValue<F>, NumberKind::kind>(out, call);
#include <tendril/core/ops/ops.def>
    default:
      fail("[", name(call.op), "] is not a unary op");
  }
}

}  // namespace tendril::ops::cuda
