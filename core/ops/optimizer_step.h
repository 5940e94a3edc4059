// The update rules of optimizers: one fused pass over parameter, gradient and state.
//
// All tensors of a step have the parameter's shape and are dense row-major (gradients may have any
// layout and any floating dtype). State is f64 for f64 parameters, else f32. A 16-bit parameter has
// an f32 `master` that carries the exact value; the parameter is its rounding. Where the two
// disagree, somebody else has set the parameter, and the master follows it.
//
// A bf16 parameter may do without: where an update says `rounding`, there is no master, and the new
// value is rounded at random, up or down with the probabilities that make it right on average. To
// the nearest, steps below half a unit of the last place would be lost every time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include <tendril/core/ops/step_gate.h>
#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// The dtype of an optimizer's state for a parameter of this dtype.
constexpr DType state_dtype(DType parameter) { return parameter == f64 ? f64 : f32; }

struct AdamWStep {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;  // decoupled
  double l2 = 0.0;             // the other way to decay, Adam's: added to the gradient
  int64_t step = 1;            // counts from 1, this one included
  bool maximize = false;
  friend bool operator==(const AdamWStep&, const AdamWStep&) = default;
};

/// What AdamW keeps per parameter. `max_square` is undefined without AMSGrad, `master` unless the
/// parameter has 16 bits.
struct AdamWState {
  Tensor mean, square, max_square, master;
};

/// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), in PyTorch's order; g =
/// -gradient when maximizing.
///   g += l2 * p;  p -= lr * weight_decay * p
///   m += (1 - beta1) (g - m)
///   v  = beta2 * v + (1 - beta2) g^2
///   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
/// AMSGrad: vmax = max(vmax, v) takes the place of v in the last line.
TENDRIL_API void adamw_step(const Tensor& parameter, const Tensor& gradient,
                            const AdamWState& state, const AdamWStep& options);

struct AdamWUpdate {
  Tensor parameter, gradient;
  AdamWState state;
  AdamWStep options;
  std::optional<RandomKey> rounding = {};
};
/// The same for many parameters: on a GPU a launch for dozens that share dtypes and options.
TENDRIL_API void adamw_steps(std::span<const AdamWUpdate> updates, const StepGate& gate = {});

struct SgdStep {
  double lr = 1e-3;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  bool nesterov = false;
  bool first = false;  // the buffer is still zeros: it becomes g, without dampening
  bool maximize = false;
  friend bool operator==(const SgdStep&, const SgdStep&) = default;
};

/// `buffer` is undefined without momentum.
struct SgdState {
  Tensor buffer, master;
};

///   g += weight_decay * p
///   buffer = momentum * buffer + (1 - dampening) g
///   p -= lr * d,  d = buffer, or g + momentum * buffer (Nesterov), or g without momentum
TENDRIL_API void sgd_step(const Tensor& parameter, const Tensor& gradient, const SgdState& state,
                          const SgdStep& options);

struct SgdUpdate {
  Tensor parameter, gradient;
  SgdState state;
  SgdStep options;
  std::optional<RandomKey> rounding = {};
};
TENDRIL_API void sgd_steps(std::span<const SgdUpdate> updates, const StepGate& gate = {});

}  // namespace tendril::ops
