#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {

std::optional<Covering> covering(const Tensor& x, const Shape& shape, int vector) {
  if (!x.is_contiguous() || !tendril::cuda::aligned16(x.raw_data())) return std::nullopt;
  if (x.shape() == shape) return Covering{Cover::all, 0};
  const int64_t count = shape.numel(), lead = shape.rank() - x.rank();
  if (count > UINT32_MAX) return std::nullopt;  // rows are found with 32-bit divisions
  if (x.numel() == 1) return Covering{Cover::column, static_cast<uint32_t>(count)};
  const auto size = [&](int64_t axis) { return axis < lead ? 1 : x.shape()[axis - lead]; };
  // Axes before `first` are 1 in x: a row of the rest is repeated.
  int64_t first = 0;
  while (first < shape.rank() && size(first) == 1) ++first;
  // Axes from `last` on are 1 in x: each value is repeated.
  int64_t last = shape.rank();
  while (last > 0 && size(last - 1) == 1) --last;
  int64_t inner = 1;
  for (int64_t axis = last; axis < shape.rank(); ++axis) inner *= shape[axis];
  bool row = x.numel() % vector == 0, column = inner % vector == 0;
  for (int64_t axis = 0; axis < shape.rank(); ++axis) {
    row &= axis < first || size(axis) == shape[axis];
    column &= axis >= last || size(axis) == shape[axis];
  }
  if (row) return Covering{Cover::row, static_cast<uint32_t>(x.numel())};
  if (column) return Covering{Cover::column, static_cast<uint32_t>(inner)};
  return std::nullopt;
}

void pointwise(const Tensor& out, const PointwiseCall& call) {
  const bool value = call.part == tendril::cpu::Part::value;
  switch (info(call.op).kind) {
    case OpInfo::Kind::unary:
      return value ? unary_value(out, call) : unary_grad(out, call);
    case OpInfo::Kind::binary:
      return value ? binary_value(out, call) : binary_grad(out, call);
    default:
      return compare(out, call);
  }
}

}  // namespace tendril::ops::cuda
