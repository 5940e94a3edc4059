#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/optimizer_coefficients.h>
#include <tendril/core/ops/optimizer_walk.h>

namespace tendril::ops {
namespace cpu {
namespace {

void adamw_step(const AdamWUpdate& update) {
  const AdamWState& state = update.state;
  const auto run = [&]<class C>(TypeTag<C>, const auto& walk) {
    const auto c = coefficients<C>(update.options);
    C* const m = state.mean.data<C>();
    C* const v = state.square.data<C>();
    C* const vmax = data_or_null<C>(state.max_square);
    walk([&](int64_t at, int64_t n, C* p, const C* g) {
      TENDRIL_ISA_CALL(adamw_block(n, p, g, m + at, v + at, advance(vmax, at), c));
    });
  };
  visit_step("adamw_step", update.parameter, update.gradient, state.master, run, update.rounding);
}

void sgd_step(const SgdUpdate& update) {
  const SgdState& state = update.state;
  const auto run = [&]<class C>(TypeTag<C>, const auto& walk) {
    const auto c = coefficients<C>(update.options);
    C* const buffer = data_or_null<C>(state.buffer);
    walk([&](int64_t at, int64_t n, C* p, const C* g) {
      TENDRIL_ISA_CALL(sgd_block(n, p, g, advance(buffer, at), c));
    });
  };
  visit_step("sgd_step", update.parameter, update.gradient, state.master, run, update.rounding);
}

void adamw_steps(std::span<const AdamWUpdate> updates, const StepGate& gate) {
  for_each_update(updates, gate, adamw_step);
}
void sgd_steps(std::span<const SgdUpdate> updates, const StepGate& gate) {
  for_each_update(updates, gate, sgd_step);
}

}  // namespace
}  // namespace cpu

namespace cuda {
void adamw_steps(std::span<const AdamWUpdate> updates, const StepGate& gate);  // optimizer_step.cu
void sgd_steps(std::span<const SgdUpdate> updates, const StepGate& gate);
}  // namespace cuda

namespace {

void check(const AdamWUpdate& update) {
  const auto& [parameter, gradient, state, options, rounding] = update;
  check_step("adamw_step", parameter, gradient, state.master, rounding);
  require_same_device("adamw_step", parameter, gradient, state.mean, state.square, state.max_square,
                      state.master);
  const DType dtype = state_dtype(parameter.dtype());
  require_dense("adamw_step", "the mean", state.mean, parameter, dtype);
  require_dense("adamw_step", "the square", state.square, parameter, dtype);
  if (state.max_square.defined())
    require_dense("adamw_step", "the largest square", state.max_square, parameter, dtype);
  TENDRIL_CHECK(options.step >= 1, "[adamw_step] steps count from 1; got ", options.step);
}

void check(const SgdUpdate& update) {
  const auto& [parameter, gradient, state, options, rounding] = update;
  check_step("sgd_step", parameter, gradient, state.master, rounding);
  require_same_device("sgd_step", parameter, gradient, state.buffer, state.master);
  if (state.buffer.defined())
    require_dense("sgd_step", "the momentum buffer", state.buffer, parameter,
                  state_dtype(parameter.dtype()));
}

}  // namespace

void adamw_steps(std::span<const AdamWUpdate> updates, const StepGate& gate) {
  for (const AdamWUpdate& update : updates) check(update);
  for_each_device(updates, [&](std::span<const AdamWUpdate> here) {
    require_same_device("adamw_step", here[0].parameter, gate.verdict);
    TENDRIL_ON_DEVICE(here[0].parameter, adamw_steps(here, gate));
  });
  for (const AdamWUpdate& update : updates) update.parameter.bump_version();
}

void sgd_steps(std::span<const SgdUpdate> updates, const StepGate& gate) {
  for (const SgdUpdate& update : updates) check(update);
  for_each_device(updates, [&](std::span<const SgdUpdate> here) {
    require_same_device("sgd_step", here[0].parameter, gate.verdict);
    TENDRIL_ON_DEVICE(here[0].parameter, sgd_steps(here, gate));
  });
  for (const SgdUpdate& update : updates) update.parameter.bump_version();
}

void adamw_step(const Tensor& parameter, const Tensor& gradient, const AdamWState& state,
                const AdamWStep& options) {
  const AdamWUpdate update = {parameter, gradient, state, options};
  adamw_steps({&update, 1});
}

void sgd_step(const Tensor& parameter, const Tensor& gradient, const SgdState& state,
              const SgdStep& options) {
  const SgdUpdate update = {parameter, gradient, state, options};
  sgd_steps({&update, 1});
}

}  // namespace tendril::ops
