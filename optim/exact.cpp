#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/optim/exact.h>

namespace tendril::optim {

Tensor exact_value(const Tensor& parameter, const Tensor& master) {
  if (!master.defined()) return parameter.detach();
  const Tensor same =
      ops::compare(Op::eq, ops::cast(master, parameter.dtype()), parameter.detach());
  return ops::where(same, master, ops::cast(parameter, master.dtype()));
}

void set_exact(const Tensor& parameter, const Tensor& master, const Tensor& value) {
  if (master.defined()) ops::copy(master, value);
  ops::copy(parameter, value);
  parameter.bump_version();
}

Tensor in_state_dtype(const Tensor& x, const Tensor& parameter) {
  return ops::cast(x.detach(), ops::state_dtype(parameter.dtype()));
}

}  // namespace tendril::optim
