// The loop over the elements of a parameter, for every rule, once per instruction set.
#include <tendril/core/ops/optimizer_rule_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

// The rule and the pointers are copies that nobody else can change, so that they stay in registers.
template <class Rule, class T>
ISA_INLINE void apply(int64_t n, T* p, const T* g, T* const* states, const Rule rule) {
  constexpr int kStates = Rule::kStates;
  T* const first = states[0];
  T* const second = kStates > 1 ? states[1] : nullptr;
  T* const third = kStates > 2 ? states[2] : nullptr;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T s[3] = {first[i], kStates > 1 ? second[i] : T(0), kStates > 2 ? third[i] : T(0)};
    p[i] = rule(p[i], g[i], s);
    first[i] = s[0];
    if constexpr (kStates > 1) second[i] = s[1];
    if constexpr (kStates > 2) third[i] = s[2];
  }
}

}  // namespace

#define RULE(...)                                                               \
  void rule_block(int64_t n, float* p, const float* g, float* const* states,    \
                  const ops::__VA_ARGS__& rule) {                               \
    apply(n, p, g, states, rule);                                               \
  }                                                                             \
  void rule_block(int64_t n, double* p, const double* g, double* const* states, \
                  const ops::__VA_ARGS__& rule) {                               \
    apply(n, p, g, states, rule);                                               \
  }
#include <tendril/core/ops/optimizer_rules.def>

}  // namespace tendril::cpu::TENDRIL_ISA
