// Private to core: how a step walks over a parameter on the CPU, whatever its rule: the checks, the
// conversions of 16-bit parameters and gradients, and who works on which tensor.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <tendril/core/cpu/philox.h>
#include <tendril/core/cpu/scratch.h>
#include <tendril/core/for_each_tensor.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/optimizer_kernels.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/threads.h>

namespace tendril::ops {

inline constexpr int64_t kStepChunk = int64_t{1} << 15;  // elements per piece of work
inline constexpr int64_t kStepBlock = 1024;  // elements converted at a time, on the stack

inline void require_dense(const char* op, const char* what, const Tensor& x,
                          const Tensor& parameter, DType dtype) {
  TENDRIL_CHECK(x.shape() == parameter.shape() && x.dtype() == dtype && x.is_contiguous(), "[", op,
                "] ", what, " must be dense ", dtype, " of shape ", parameter.shape(), "; got ",
                x.dtype(), " ", x.shape(), x.is_contiguous() ? "" : ", strided");
}

// What rounding at random asks of a parameter.
inline void check_rounding(const char* op, const Tensor& parameter, const Tensor& master) {
  TENDRIL_CHECK(parameter.dtype() == bf16 && !master.defined(), "[", op,
                "] rounding at random takes the place of the master of a bf16 parameter; got ",
                parameter.dtype(), master.defined() ? " with a master" : "");
}

// What all rules ask of parameter, gradient and master.
inline void check_step(const char* op, const Tensor& parameter, const Tensor& gradient,
                       const Tensor& master, const std::optional<RandomKey>& rounding = {}) {
  TENDRIL_CHECK(is_floating(parameter.dtype()) && parameter.is_contiguous(), "[", op,
                "] the parameter must be floating-point and dense; got ", parameter.dtype(), " ",
                parameter.shape(), " with strides ", parameter.strides());
  TENDRIL_CHECK(is_floating(gradient.dtype()) && gradient.shape() == parameter.shape(), "[", op,
                "] the gradient must be floating-point of shape ", parameter.shape(), "; got ",
                gradient.dtype(), " ", gradient.shape());
  const DType dtype = state_dtype(parameter.dtype());
  if (rounding) return check_rounding(op, parameter, master);
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
inline const uint16_t* bits(const bfloat16* x) { return reinterpret_cast<const uint16_t*>(x); }
inline uint16_t* bits(bfloat16* x) { return reinterpret_cast<uint16_t*>(x); }

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

// y = x, rounded with the numbers of the elements from `at`, a multiple of kPhiloxWords.
inline void round_block(int64_t at, int64_t n, const float* x, bfloat16* y, const RandomKey& key) {
  constexpr int64_t kGroup = tendril::cpu::kPhiloxWords;
  static_assert(kStepBlock % kGroup == 0 && kStepChunk % kStepBlock == 0);
  const tendril::cpu::PhiloxStream stream = tendril::cpu::philox_stream(key);
  uint32_t words[kGroup];
  for (int64_t begin = 0; begin < n; begin += kGroup) {
    TENDRIL_ISA_CALL(philox_words(stream, static_cast<uint64_t>((at + begin) / kGroup), words));
    const int64_t count = std::min(kGroup, n - begin);
    TENDRIL_ISA_CALL(round_bf16_block(count, x + begin, words, bits(y + begin)));
  }
}

// Calls step(offset, count, p, g) over the whole parameter with p and g in the state's type C. What
// is stored in another type passes through a buffer that stays in the first-level cache.
template <class P, class G, class C, class Step>
void for_each_block(const Tensor& parameter, const Tensor& gradient, C* master,
                    const std::optional<RandomKey>& rounding, const Step& step) {
  P* const values = parameter.data<P>();
  const G* const gradients = gradient.data<G>();
  if constexpr (std::is_same_v<P, C> && std::is_same_v<G, C>) {
    parallel_for(parameter.numel(), kStepChunk, [&](int64_t begin, int64_t end) {
      step(begin, end - begin, values + begin, gradients + begin);
    });
    return;
  }
  parallel_for(parameter.numel(), kStepChunk, [&](int64_t begin, int64_t end) {
    C g[kStepBlock];
    for (int64_t at = begin; at < end; at += kStepBlock) {
      const int64_t n = std::min(kStepBlock, end - at);
      convert_block(n, gradients + at, g);
      if constexpr (std::is_same_v<P, C>) {
        step(at, n, values + at, g);
      } else if (rounding) {
        if constexpr (std::is_same_v<P, bfloat16>) {
          C p[kStepBlock];
          convert_block(n, values + at, p);
          step(at, n, p, g);
          round_block(at, n, p, values + at, *rounding);
        }
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
                const Tensor& master, const Run& run,
                const std::optional<RandomKey>& rounding = {}) {
  // Small parameters are updated by several threads at once: a copy is the thread's own memory.
  const tendril::cpu::Scratch copied(gradient.is_contiguous() ? 0 : gradient.nbytes());
  Tensor dense = gradient;
  if (!gradient.is_contiguous()) {
    dense = Tensor::external(copied.data(), gradient.shape(), gradient.dtype());
    copy(dense, gradient);
  }
  visit_floating(op, parameter.dtype(), [&]<class P>(TypeTag<P>) {
    using C = std::conditional_t<std::is_same_v<P, double>, double, float>;
    C* const exact = data_or_null<C>(std::is_same_v<P, C> ? Tensor() : master);
    visit_floating(op, dense.dtype(), [&]<class G>(TypeTag<G>) {
      run(TypeTag<C>{}, [&](const auto& step) {
        for_each_block<P, G, C>(parameter, dense, exact, rounding, step);
      });
    });
  });
}

// Calls step(update) for all of them if the gate is open, several threads for one or for each its
// own.
template <class Update, class Step>
void for_each_update(std::span<const Update> updates, const StepGate& gate, const Step& step) {
  if (!is_open(gate)) return;
  for_each_tensor(
      updates.size(), [&](size_t i) { return updates[i].parameter.numel(); },
      [&](size_t i) { step(updates[i]); });
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

}  // namespace tendril::ops
