// Private to core: the CPU's loops over the rules of optimizer_rules.h, compiled once per
// instruction set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/ops/optimizer_rules.h>

// n elements of the parameter, its gradient and its states.
#define RULE(...)                                                                                \
  TENDRIL_DECLARE_ISA(void rule_block(int64_t n, float* p, const float* g, float* const* states, \
                                      const ops::__VA_ARGS__& rule))                             \
  TENDRIL_DECLARE_ISA(void rule_block(int64_t n, double* p, const double* g,                     \
                                      double* const* states, const ops::__VA_ARGS__& rule))
#include <tendril/core/ops/optimizer_rules.def>
