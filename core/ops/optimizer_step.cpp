#include <tendril/core/ops/optimizer_step.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <tendril/core/cpu/scratch.h>
#include <tendril/core/for_each_tensor.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/optimizer_coefficients.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = int64_t{1} << 15;  // elements per piece of work
constexpr int64_t kBlock = 1024;              // elements converted at a time, on the stack

void require_dense(const char* op, const char* what, const Tensor& x, const Tensor& parameter,
                   DType dtype) {
  TENDRIL_CHECK(x.shape() == parameter.shape() && x.dtype() == dtype && x.is_contiguous(), "[", op,
                "] ", what, " must be dense ", dtype, " of shape ", parameter.shape(), "; got ",
                x.dtype(), " ", x.shape(), x.is_contiguous() ? "" : ", strided");
}

// What both rules ask of parameter, gradient and master.
void check_step(const char* op, const Tensor& parameter, const Tensor& gradient,
                const Tensor& master) {
  TENDRIL_CHECK(is_floating(parameter.dtype()) && parameter.is_contiguous(), "[", op,
                "] the parameter must be floating-point and dense; got ", parameter.dtype(), " ",
                parameter.shape(), " with strides ", parameter.strides());
  TENDRIL_CHECK(is_floating(gradient.dtype()) && gradient.shape() == parameter.shape(), "[", op,
                "] the gradient must be floating-point of shape ", parameter.shape(), "; got ",
                gradient.dtype(), " ", gradient.shape());
  const DType dtype = state_dtype(parameter.dtype());
  if (dtype == parameter.dtype()) return;
  TENDRIL_CHECK(master.defined(), "[", op, "] a ", parameter.dtype(),
                " parameter needs a master in f32; got none");
  require_dense(op, "the master", master, parameter, dtype);
}

template <class T>
T* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

template <class T>
T* advance(T* pointer, int64_t count) {
  return pointer ? pointer + count : nullptr;
}

// The vectorised conversions see a bf16 as its bits.
const uint16_t* bits(const bfloat16* x) { return reinterpret_cast<const uint16_t*>(x); }
uint16_t* bits(bfloat16* x) { return reinterpret_cast<uint16_t*>(x); }

// y = x, between storage and state.
template <class From, class To>
void convert_block(int64_t n, const From* x, To* y) {
  if constexpr (std::is_same_v<From, bfloat16> && std::is_same_v<To, float>)
    TENDRIL_ISA_CALL(widen_bf16_block(n, bits(x), y));
  else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, bfloat16>)
    TENDRIL_ISA_CALL(narrow_bf16_block(n, x, bits(y)));
  else
    for (int64_t i = 0; i < n; ++i) y[i] = convert<To>(x[i]);
}

// x = y wherever x does not round to y.
template <class C, class P>
void follow_block(int64_t n, C* x, const P* y) {
  if constexpr (std::is_same_v<P, bfloat16>)
    TENDRIL_ISA_CALL(follow_bf16_block(n, x, bits(y)));
  else
    for (int64_t i = 0; i < n; ++i) {
      const C now = convert<C>(y[i]);
      if (convert<C>(convert<P>(x[i])) != now) x[i] = now;
    }
}

// Calls step(offset, count, p, g) over the whole parameter with p and g in the state's type C. What
// is stored in another type passes through a buffer that stays in the first-level cache.
template <class P, class G, class C, class Step>
void for_each_block(const Tensor& parameter, const Tensor& gradient, C* master, const Step& step) {
  P* const values = parameter.data<P>();
  const G* const gradients = gradient.data<G>();
  if constexpr (std::is_same_v<P, C> && std::is_same_v<G, C>) {
    parallel_for(parameter.numel(), kChunk, [&](int64_t begin, int64_t end) {
      step(begin, end - begin, values + begin, gradients + begin);
    });
    return;
  }
  parallel_for(parameter.numel(), kChunk, [&](int64_t begin, int64_t end) {
    C g[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = std::min(kBlock, end - at);
      convert_block(n, gradients + at, g);
      if constexpr (std::is_same_v<P, C>) {
        step(at, n, values + at, g);
      } else {
        follow_block(n, master + at, values + at);  // a parameter that was set from outside wins
        step(at, n, master + at, g);
        convert_block(n, master + at, values + at);
      }
    }
  });
}

// Finds the types; run(TypeTag of the state, blocks) gets a function that walks with such a step.
template <class Run>
void visit_step(const char* op, const Tensor& parameter, const Tensor& gradient,
                const Tensor& master, const Run& run) {
  // Small parameters are updated by several threads at once: a copy is the thread's own memory.
  const tendril::cpu::Scratch copied(gradient.is_contiguous() ? 0 : gradient.nbytes());
  Tensor dense = gradient;
  if (!gradient.is_contiguous()) {
    dense = Tensor::external(copied.data(), gradient.shape(), gradient.dtype());
    copy(dense, gradient);
  }
  visit_floating(op, parameter.dtype(), [&]<class P>(TypeTag<P>) {
    using C = std::conditional_t<std::is_same_v<P, double>, double, float>;
    C* const exact = std::is_same_v<P, C> ? nullptr : master.data<C>();
    visit_floating(op, dense.dtype(), [&]<class G>(TypeTag<G>) {
      run(TypeTag<C>{},
          [&](const auto& step) { for_each_block<P, G, C>(parameter, dense, exact, step); });
    });
  });
}

}  // namespace

namespace cpu {
namespace {

void adamw_step(const Tensor& parameter, const Tensor& gradient, const AdamWState& state,
                const AdamWStep& options) {
  const auto run = [&]<class C>(TypeTag<C>, const auto& walk) {
    const auto c = coefficients<C>(options);
    C* const m = state.mean.data<C>();
    C* const v = state.square.data<C>();
    C* const vmax = data_or_null<C>(state.max_square);
    walk([&](int64_t at, int64_t n, C* p, const C* g) {
      TENDRIL_ISA_CALL(adamw_block(n, p, g, m + at, v + at, advance(vmax, at), c));
    });
  };
  visit_step("adamw_step", parameter, gradient, state.master, run);
}

void sgd_step(const Tensor& parameter, const Tensor& gradient, const SgdState& state,
              const SgdStep& options) {
  const auto run = [&]<class C>(TypeTag<C>, const auto& walk) {
    const auto c = coefficients<C>(options);
    C* const buffer = data_or_null<C>(state.buffer);
    walk([&](int64_t at, int64_t n, C* p, const C* g) {
      TENDRIL_ISA_CALL(sgd_block(n, p, g, advance(buffer, at), c));
    });
  };
  visit_step("sgd_step", parameter, gradient, state.master, run);
}

template <class Update, class Step>
void for_each_update(std::span<const Update> updates, const Step& step) {
  for_each_tensor(
      updates.size(), [&](size_t i) { return updates[i].parameter.numel(); },
      [&](size_t i) {
        const Update& update = updates[i];
        step(update.parameter, update.gradient, update.state, update.options);
      });
}

void adamw_steps(std::span<const AdamWUpdate> updates) { for_each_update(updates, adamw_step); }
void sgd_steps(std::span<const SgdUpdate> updates) { for_each_update(updates, sgd_step); }

}  // namespace
}  // namespace cpu

namespace cuda {
void adamw_steps(std::span<const AdamWUpdate> updates);  // optimizer_step.cu
void sgd_steps(std::span<const SgdUpdate> updates);
}  // namespace cuda

namespace {

void check(const AdamWUpdate& update) {
  const auto& [parameter, gradient, state, options] = update;
  check_step("adamw_step", parameter, gradient, state.master);
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
  const auto& [parameter, gradient, state, options] = update;
  check_step("sgd_step", parameter, gradient, state.master);
  require_same_device("sgd_step", parameter, gradient, state.buffer, state.master);
  if (state.buffer.defined())
    require_dense("sgd_step", "the momentum buffer", state.buffer, parameter,
                  state_dtype(parameter.dtype()));
}

// Calls run(updates of one device), device by device; mostly there is one.
template <class Update, class Run>
void for_each_device(std::span<const Update> updates, const Run& run) {
  std::vector<Update> rest;
  while (!updates.empty()) {
    const Device device = updates[0].parameter.device();
    const auto there = [&](const Update& update) { return update.parameter.device() == device; };
    if (std::all_of(updates.begin(), updates.end(), there)) return run(updates);
    std::vector<Update> here, elsewhere;
    for (const Update& update : updates) (there(update) ? here : elsewhere).push_back(update);
    run(std::span<const Update>(here));
    rest = std::move(elsewhere);
    updates = rest;
  }
}

}  // namespace

void adamw_steps(std::span<const AdamWUpdate> updates) {
  for (const AdamWUpdate& update : updates) check(update);
  for_each_device(updates, [](std::span<const AdamWUpdate> here) {
    TENDRIL_ON_DEVICE(here[0].parameter, adamw_steps(here));
  });
  for (const AdamWUpdate& update : updates) update.parameter.bump_version();
}

void sgd_steps(std::span<const SgdUpdate> updates) {
  for (const SgdUpdate& update : updates) check(update);
  for_each_device(updates, [](std::span<const SgdUpdate> here) {
    TENDRIL_ON_DEVICE(here[0].parameter, sgd_steps(here));
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
