// Private to optim: the state that every optimizer may have.
#pragma once

#include <tendril/core/ops/optimizer_step.h>

namespace tendril::optim {

inline constexpr const char* kMaster = "master";
inline constexpr const char* kStep = "step";

inline bool has_master(const Tensor& parameter) {
  return ops::state_dtype(parameter.dtype()) != parameter.dtype();
}

}  // namespace tendril::optim
