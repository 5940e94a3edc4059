// Private to optim: rounding at random, for bf16 parameters without f32 masters.
#pragma once

#include <cstdint>
#include <string>

#include <tendril/core/tensor.h>
#include <tendril/optim/parameter_key.h>

namespace tendril::optim {

/// The random numbers that round one parameter in one step.
inline RandomKey rounding_key(uint64_t seed, const std::string& parameter, int64_t step) {
  return parameter_key(seed, parameter, step, Stream::rounding);
}

/// Whether a parameter is rounded so, where its options ask for it; wider ones need no rounding.
/// Error for f16, whose small numbers would not survive.
inline bool rounds_at_random(const char* optimizer, bool asked, const Tensor& parameter) {
  if (!asked) return false;
  TENDRIL_CHECK(parameter.dtype() != f16, "[", optimizer,
                "] stochastic_rounding is for bf16 parameters; got f16; leave it out, and f32 "
                "masters are kept");
  return parameter.dtype() == bf16;
}

}  // namespace tendril::optim
