// What all reporters share: log rows, from the first process alone.
#pragma once

#include <string>

#include <tendril/trainer/callback.h>

namespace tendril {

/// Writes the rows of a run somewhere. Of a resumed run only rows up to the step of the checkpoint
/// are kept, so that no step is there twice; a run from the start begins anew.
class TENDRIL_API Reporter : public TrainerCallback {
 public:
  void on_train_begin(CallbackContext& context) final;
  void on_log(CallbackContext& context) final;
  void on_train_end(CallbackContext& context) final;

 protected:
  /// Before the first row of a run. It is a resumed one where context.state.global_step > 0. A row
  /// may come without it, when the program evaluates outside of training.
  virtual void begin(const CallbackContext& context) = 0;
  /// `row` begins with "step"; the other members keep the order of the log row.
  virtual void write_row(const CallbackContext& context, const Json& row) = 0;
  virtual void end(const CallbackContext&) {}
};

/// {"step": step} and then the members of `row`, but for a step of its own.
TENDRIL_API Json row_with_step(int64_t step, const Json& row);

/// "eval_loss" -> "eval/loss", "test_loss" -> "test/loss", "loss" -> "train/loss".
TENDRIL_API std::string grouped_key(const std::string& key);

}  // namespace tendril
