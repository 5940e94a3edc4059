// Scalars and arguments for TensorBoard.
#pragma once

#include <memory>

#include <tendril/trainer/callbacks/reporters/event_file.h>
#include <tendril/trainer/callbacks/reporters/reporter.h>

namespace tendril {

/// One event file in `folder`; numbers appear as train/loss, eval/loss and so on, what was not
/// finite as NaN. Event files are never changed: in a resumed run a new one tells TensorBoard to
/// forget the steps after the checkpoint that older files of the folder have.
class TENDRIL_API TensorBoardReporter : public Reporter {
 public:
  explicit TensorBoardReporter(std::string folder) : folder_(std::move(folder)) {}

 protected:
  void begin(const CallbackContext& context) override;
  void write_row(const CallbackContext& context, const Json& row) override;

 private:
  std::string folder_;
  std::unique_ptr<EventFile> file_;
};

}  // namespace tendril
