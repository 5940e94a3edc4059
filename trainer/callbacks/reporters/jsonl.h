// log.jsonl: one JSON object per line and log row.
#pragma once

#include <memory>

#include <tendril/trainer/callbacks/reporters/append_file.h>
#include <tendril/trainer/callbacks/reporters/reporter.h>

namespace tendril {

/// {"step":500,"loss":1.25,"learning_rate":5e-05,"epoch":1.0}: keys as the Trainer logs them. Each
/// row is in the file as soon as it is logged. When a run is resumed and the file is gone, the rows
/// of the checkpoint's log_history take its place.
class TENDRIL_API JsonlReporter : public Reporter {
 public:
  explicit JsonlReporter(std::string path) : path_(std::move(path)) {}

 protected:
  void begin(const CallbackContext& context) override;
  void write_row(const CallbackContext& context, const Json& row) override;

 private:
  std::string path_;
  std::unique_ptr<AppendFile> file_;
};

}  // namespace tendril
