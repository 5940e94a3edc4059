// Private to optim: the exact value of a parameter for rules that are written with tensor
// operations.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::optim {

/// The value that a rule reads: the parameter itself, or its f32 master, which first follows a
/// parameter that somebody else has set.
Tensor exact_value(const Tensor& parameter, const Tensor& master);

/// Sets the parameter and, if there is one, its master.
void set_exact(const Tensor& parameter, const Tensor& master, const Tensor& value);

/// x in the dtype of the state for this parameter, off the tape.
Tensor in_state_dtype(const Tensor& x, const Tensor& parameter);

}  // namespace tendril::optim
