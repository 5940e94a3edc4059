#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {
namespace {

struct Select {
  static constexpr int kInputs = 3;
  template <class C>
  __device__ static C apply(const C (&in)[3], C) {
    return in[0] != C(0) ? in[1] : in[2];
  }
};

}  // namespace

void compare(const Tensor& out, const PointwiseCall& call) {
  switch (call.op) {
#define COMPARE(op, F) \
  case Op::op:         \
    return launch<BinaryValue<F>, NumberKind::Number, /*kDense=*/false>(out, call);
#include <tendril/core/ops/ops.def>
    case Op::where:
      return launch<Select, NumberKind::Number, /*kDense=*/false>(out, call);
    default:
      fail("[", name(call.op), "] is not a comparison");
  }
}

}  // namespace tendril::ops::cuda
