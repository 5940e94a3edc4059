// The callback that decides when a run logs, evaluates, saves and ends.
#pragma once

#include <tendril/trainer/callback.h>

namespace tendril {

/// Reads the strategies of the arguments, but the steps of the state: those are whole numbers where
/// the arguments have fractions of the run, and a resumed run may keep the old ones.
class TENDRIL_API DefaultFlowCallback : public TrainerCallback {
 public:
  /// At the last step it ends training, and asks for a checkpoint too where save_strategy is steps.
  void on_step_end(CallbackContext& context) override;
  void on_epoch_end(CallbackContext& context) override;
};

}  // namespace tendril
