// A progress bar with log rows above it.
#pragma once

#include <chrono>
#include <cstdio>

#include <tendril/trainer/callback.h>
#include <tendril/trainer/callbacks/progress_bar.h>

namespace tendril {

enum class ProgressStyle { automatic, bar, lines };

/// On a terminal: a bar that is redrawn at most ten times a second, and at once at a log row, which
/// stays above it. Elsewhere log rows alone, one line each (see log_row_text). The first process of
/// all shows it.
///
/// max_str_len cuts long texts in rows. (In the Hugging Face Trainer the value has no effect.)
class TENDRIL_API ProgressCallback : public TrainerCallback {
 public:
  /// `sink` must stay open as long as the callback lives. automatic: a bar if `sink` is a terminal.
  explicit ProgressCallback(std::FILE* sink = stderr,
                            ProgressStyle style = ProgressStyle::automatic,
                            int64_t max_str_len = 100);
  /// Ends the line of a bar that an exception left behind.
  ~ProgressCallback() override;

  void on_train_begin(CallbackContext& context) override;
  void on_step_end(CallbackContext& context) override;
  void on_prediction_step(CallbackContext& context) override;
  void on_evaluate(CallbackContext& context) override;
  void on_predict(CallbackContext& context) override;
  void on_log(CallbackContext& context) override;
  void on_train_end(CallbackContext& context) override;

 private:
  using Clock = std::chrono::steady_clock;

  bool shows_bar(const CallbackContext& context) const;
  bool is_due() const;
  void update(const TrainerState& state);
  void draw();
  void write(const std::string& text);
  int64_t line_width() const;
  void end_of_predictions(const CallbackContext& context);

  std::FILE* sink_;
  bool terminal_;
  int64_t max_str_len_;
  bool training_ = false, line_open_ = false;
  ProgressBar bar_;
  int64_t first_tokens_ = 0;
  int64_t prediction_steps_done_ = 0;
  Clock::time_point began_, last_drawn_;
};

}  // namespace tendril
