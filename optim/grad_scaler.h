// Dynamic loss scaling for products in f16 (Micikevicius et al. 2018), with the rules of PyTorch's
// GradScaler. Gradients that are too small for f16 survive when the loss, and with it every
// gradient, is multiplied by a large factor; what overflows costs one step and halves the factor.
//
//   optim::GradScaler scaler;
//   for (...) {
//     const AutocastGuard autocast(f16);
//     scaler.scale(model.loss(tokens, targets)).backward();  // several times to accumulate
//     scaler.unscale(optimizer);                             // only to clip or look at gradients
//     optim::clip_grad_norm_async(optimizer.parameters(), 1.0);
//     scaler.step(optimizer);
//     scaler.update();
//     optimizer.zero_grad();
//   }
//
// On a GPU such a loop never waits. The scale stays there, a step that must be left out is left out
// there, and the host hears of it when it asks: scale(), found_inf(), state(), a StepResult and the
// optimizer's state_dict() wait. Which optimizers can do without knowing,
// Optimizer::step_unless() says; with the others, and with parameters on several devices, step()
// waits for the gradients.
#pragma once

#include <cstdint>
#include <vector>

#include <tendril/core/json.h>
#include <tendril/core/late_flag.h>
#include <tendril/optim/optimizer.h>

namespace tendril::optim {

struct GradScalerOptions {
  double init_scale = 65536.0;
  double growth_factor = 2.0;      // above 1
  double backoff_factor = 0.5;     // in (0, 1)
  int64_t growth_interval = 2000;  // updates in a row without an overflow before the scale grows
};

/// Whether GradScaler::step() has moved the parameters. A schedule that follows the updates asks,
/// and one step late the answer is mostly there:
///   if (result && bool(*result)) ++updates;     // of the step before
///   optimizer.scale_lr(optim::cosine(updates, ...));  ...  result = scaler.step(optimizer);
class TENDRIL_API StepResult {
 public:
  explicit StepResult(const LateFlag& left_out) : left_out_(left_out) {}
  /// Whether the answer is there already.
  bool is_known() const { return left_out_.has_arrived(); }
  /// Waits for a GPU that has not got there yet.
  operator bool() const { return !left_out_.value(); }

 private:
  LateFlag left_out_;
};

class TENDRIL_API GradScaler {
 public:
  /// Error for options out of range.
  explicit GradScaler(const GradScalerOptions& options = {});
  GradScaler(GradScaler&&) = default;
  GradScaler& operator=(GradScaler&&) = default;
  GradScaler(const GradScaler&) = delete;  // the two would share their scale
  GradScaler& operator=(const GradScaler&) = delete;

  double scale() const;
  /// The loss times the scale, in f32 for a 16-bit loss: its own range would not do.
  Tensor scale(const Tensor& loss) const;

  /// Divides all gradients of the optimizer by the scale, once until update(): further calls do
  /// nothing. Looks for infinity and NaN in them on the way. Error for f16 gradients, which cannot
  /// hold what remains, and after step().
  void unscale(const Optimizer& optimizer);
  /// Whether unscale() has met infinity or NaN since the last update(), with any optimizer.
  bool found_inf() const;
  /// For several processes, which must agree: as if unscale() had met infinity here too.
  void set_found_inf();
  /// Unscales if that has not been done, and then steps, unless the gradients are not finite: then
  /// nothing moves, and the result is false. Error for a second time before update().
  StepResult step(Optimizer& optimizer);
  /// After the steps of all optimizers: the scale shrinks by backoff_factor when any gradient was
  /// not finite, and grows by growth_factor (unless that overflows) after growth_interval calls
  /// without. Error when nothing has been unscaled.
  void update();

  /// PyTorch's members: scale, growth_factor, backoff_factor, growth_interval, _growth_tracker.
  Json state() const;
  /// Replaces scale, options and tracker. Error for anything that state() could not have given.
  void load_state(const Json& state);

 private:
  // An optimizer whose gradients have been unscaled since the last update().
  struct Unscaled {
    const Optimizer* optimizer;
    LateFlag found_inf;
    bool stepped;
  };
  Unscaled* find(const Optimizer& optimizer);
  void move_to(Device device) const;

  GradScalerOptions options_;
  // f32 and i64 without axes, always at the same place once they are on a GPU, so that a recorded
  // cuda::Graph sees them move. Mutable, as they go to where the loss is.
  mutable Tensor scale_, growth_tracker_;
  std::vector<Unscaled> unscaled_;
};

}  // namespace tendril::optim
