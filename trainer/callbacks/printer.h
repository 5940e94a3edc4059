// Log rows as plain lines.
#pragma once

#include <cstdio>

#include <tendril/trainer/callback.h>

namespace tendril {

/// For programs that want no progress bar (disable_tqdm). The first process of each machine prints.
class TENDRIL_API PrinterCallback : public TrainerCallback {
 public:
  /// `sink` must stay open as long as the callback lives.
  explicit PrinterCallback(std::FILE* sink = stderr, int64_t max_str_len = 100)
      : sink_(sink), max_str_len_(max_str_len) {}

  /// The row is shared by all callbacks and stays as it is. (The Hugging Face Trainer's printer
  /// takes total_flos out of it, so that later callbacks and the result of train() miss it.)
  void on_log(CallbackContext& context) override;

 private:
  std::FILE* sink_;
  int64_t max_str_len_;
};

}  // namespace tendril
