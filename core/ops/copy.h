// Copying between layouts and dtypes: what every other op falls back on when it needs dense memory.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// destination[...] = source[...], converted as core/ops/convert.h says. `source` broadcasts to the
/// shape of `destination`; the two may overlap or be on different devices. Error when the destination repeats elements (stride
/// 0). Does not count as an in-place change: callers that change a user's tensor bump its version.
TENDRIL_API void copy(const Tensor& destination, const Tensor& source);

/// destination[...] = value, converted to its dtype.
TENDRIL_API void fill(const Tensor& destination, double value);

/// The same numbers off the tape, dense row-major: x's memory when it is dense already, else a
/// copy.
TENDRIL_API Tensor contiguous(const Tensor& x);

/// A dense copy.
TENDRIL_API Tensor clone(const Tensor& x);

/// The same numbers in another dtype: x's memory (off the tape) when it has that dtype already,
/// else a dense copy.
TENDRIL_API Tensor cast(const Tensor& x, DType dtype);

/// The handle itself when it is off the tape, else one without the autograd slot.
TENDRIL_API Tensor raw(const Tensor& x);

}  // namespace tendril::ops
