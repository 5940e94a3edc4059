// AdamW and SGD on a GPU.
//
// Per element of a 16-bit parameter AdamW moves 30 bytes: gradient 2, parameter 2 + 2, master, mean
// and square 4 + 4 each.
#include <tendril/core/ops/optimizer_coefficients.h>
#include <tendril/core/ops/optimizer_step.cuh>

namespace tendril::ops::cuda {
namespace {

template <bool kAmsGrad, class C>
struct AdamWElement {
  tendril::cpu::AdamWCoefficients<C> c;

  __device__ C operator()(C p, C g, C* s) const {
    return tendril::cpu::adamw_element<kAmsGrad>(p, g, s[0], s[1], s[kAmsGrad ? 2 : 1], c);
  }
};

template <bool kAmsGrad>
struct AdamW {
  static constexpr const char* kName = "adamw_step";
  static constexpr int kStates = 2 + kAmsGrad;
  AdamWStep options;
  friend bool operator==(const AdamW&, const AdamW&) = default;

  template <class C>
  AdamWElement<kAmsGrad, C> element() const {
    return {coefficients<C>(options)};
  }
};

template <bool kMomentum, class C>
struct SgdElement {
  tendril::cpu::SgdCoefficients<C> c;

  __device__ C operator()(C p, C g, C* s) const {
    return tendril::cpu::sgd_element<kMomentum>(p, g, s[0], c);
  }
};

template <bool kMomentum>
struct Sgd {
  static constexpr const char* kName = "sgd_step";
  static constexpr int kStates = kMomentum;
  SgdStep options;
  friend bool operator==(const Sgd&, const Sgd&) = default;

  template <class C>
  SgdElement<kMomentum, C> element() const {
    return {coefficients<C>(options)};
  }
};

template <bool kAmsGrad>
void queue_adamw(std::span<const AdamWUpdate> updates, const StepGate& gate) {
  std::vector<RuleUpdate<AdamW<kAmsGrad>>> list;
  for (const auto& [parameter, gradient, state, options, rounding] : updates) {
    if (state.max_square.defined() != kAmsGrad) continue;
    auto& update = list.emplace_back();
    update = {parameter, gradient, state.master, {state.mean, state.square}, {options}, rounding};
    if constexpr (kAmsGrad) update.states[2] = state.max_square;
  }
  queue_steps<AdamW<kAmsGrad>>(list, gate);
}

template <bool kMomentum>
void queue_sgd(std::span<const SgdUpdate> updates, const StepGate& gate) {
  std::vector<RuleUpdate<Sgd<kMomentum>>> list;
  for (const auto& [parameter, gradient, state, options, rounding] : updates) {
    if (state.buffer.defined() != kMomentum) continue;
    auto& update = list.emplace_back();
    update = {parameter, gradient, state.master, {}, {options}, rounding};
    if constexpr (kMomentum) update.states[0] = state.buffer;
  }
  queue_steps<Sgd<kMomentum>>(list, gate);
}

}  // namespace

void adamw_steps(std::span<const AdamWUpdate> updates, const StepGate& gate) {
  queue_adamw<false>(updates, gate);
  queue_adamw<true>(updates, gate);
}

void sgd_steps(std::span<const SgdUpdate> updates, const StepGate& gate) {
  queue_sgd<false>(updates, gate);
  queue_sgd<true>(updates, gate);
}

}  // namespace tendril::ops::cuda
