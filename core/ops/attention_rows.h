// Private to core: the row loops of attention, compiled per instruction set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>

// The largest of scale * s[i] + add[i] (add may be null), written back to s; -inf only where no
// other number and no NaN is among them.
TENDRIL_DECLARE_ISA(float scale_add_max(float* s, const float* add, int64_t n, float scale))
TENDRIL_DECLARE_ISA(double scale_add_max(double* s, const double* add, int64_t n, double scale))
// s[i] = exp(s[i] - shift); returns the sum.
TENDRIL_DECLARE_ISA(float exp_shifted_sum(float* s, int64_t n, float shift))
TENDRIL_DECLARE_ISA(double exp_shifted_sum(double* s, int64_t n, double shift))
TENDRIL_DECLARE_ISA(void scale_row(float* x, int64_t n, float factor))
TENDRIL_DECLARE_ISA(void scale_row(double* x, int64_t n, double factor))
// dp[i] = p[i] * (dp[i] - delta) * scale
TENDRIL_DECLARE_ISA(void score_gradient(float* dp, const float* p, int64_t n, float delta,
                                        float scale))
TENDRIL_DECLARE_ISA(void score_gradient(double* dp, const double* p, int64_t n, double delta,
                                        double scale))
