#include <tendril/core/ops/code_book.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/optimizer_walk.h>
#include <tendril/core/ops/quantized_rule_step.h>

namespace tendril::ops {
namespace cpu {
namespace {

using tendril::cpu::QuantizedBlock;

static_assert(kStepBlock % kQuantBlock == 0, "the walk must not cut blocks");

template <class Rule>
constexpr CodeMap map_of(int state) {
  return Rule::kSigned[state] ? CodeMap::with_sign : CodeMap::without_sign;
}

template <class Rule>
void apply_rule(const QuantizedRuleUpdate<Rule>& update) {
  const auto run = [&]<class C>(TypeTag<C>, const auto& walk) {
    if constexpr (std::is_same_v<C, float>)
      walk([&](int64_t at, int64_t n, float* p, const float* g) {
        QuantizedBlock states[Rule::kStates];
        for (int k = 0; k < Rule::kStates; ++k)
          states[k] = {update.states[k].codes.template data<uint8_t>() + at,
                       update.states[k].absmax.template data<float>() + at / kQuantBlock,
                       &code_book(map_of<Rule>(k))};
        TENDRIL_ISA_CALL(quantized_rule_blocks(n, p, g, states, update.rule));
      });
  };
  visit_step(Rule::kName, update.parameter, update.gradient, update.master, run, update.rounding);
}

template <class Rule>
void apply_rules(std::span<const QuantizedRuleUpdate<Rule>> updates, const StepGate& gate) {
  for_each_update(updates, gate, apply_rule<Rule>);
}

}  // namespace
}  // namespace cpu

namespace cuda {
template <class Rule>
void apply_rules(std::span<const QuantizedRuleUpdate<Rule>> updates,
                 const StepGate& gate);  // quantized_rules.cu
}

namespace {

template <class Rule>
void check(const QuantizedRuleUpdate<Rule>& update) {
  const Tensor& parameter = update.parameter;
  check_step(Rule::kName, parameter, update.gradient, update.master, update.rounding);
  TENDRIL_CHECK(parameter.dtype() != f64, "[", Rule::kName,
                "] an f64 parameter has f64 states; 8-bit ones are for up to 32 bits");
  for (const Quantized& state : update.states) {
    require_same_device(Rule::kName, parameter, update.gradient, update.master, state.codes,
                        state.absmax);
    require_dense(Rule::kName, "the codes of a state", state.codes, parameter, u8);
    TENDRIL_CHECK(state.absmax.dtype() == f32 && state.absmax.is_contiguous() &&
                      state.absmax.numel() == quant_blocks(parameter.numel()),
                  "[", Rule::kName, "] there must be one f32 per 256 codes; got ",
                  state.absmax.dtype(), " ", state.absmax.shape(), " for ", parameter.numel());
  }
}

}  // namespace

template <class Rule>
void apply_rules(std::span<const QuantizedRuleUpdate<Rule>> updates, const StepGate& gate) {
  for (const QuantizedRuleUpdate<Rule>& update : updates) check(update);
  for_each_device(updates, [&](std::span<const QuantizedRuleUpdate<Rule>> here) {
    require_same_device(Rule::kName, here[0].parameter, gate.verdict);
    TENDRIL_ON_DEVICE(here[0].parameter, apply_rules<Rule>(here, gate));
  });
  for (const QuantizedRuleUpdate<Rule>& update : updates) update.parameter.bump_version();
}

#define RULE(...)                                     \
  template TENDRIL_API void apply_rules<__VA_ARGS__>( \
      std::span<const QuantizedRuleUpdate<__VA_ARGS__>>, const StepGate&);
#include <tendril/core/ops/quantized_rules.def>

}  // namespace tendril::ops
