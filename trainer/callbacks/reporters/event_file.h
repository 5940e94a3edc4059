// TensorBoard's event files: protobuf messages Event (event.proto, summary.proto of TensorBoard) in
// the record framing of TFRecord, written by hand, since a run needs only five kinds of fields.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/trainer/callbacks/reporters/append_file.h>

namespace tendril {

struct ScalarSummary {
  std::string tag;
  double value = 0.0;  // stored as f32
};

class TENDRIL_API EventFile {
 public:
  /// A new file folder/events.out.tfevents.<seconds>.<host>.<process id>, with ".1" and so on
  /// behind it where that exists. The folder is made.
  explicit EventFile(const std::string& folder);

  void scalars(int64_t step, const std::vector<ScalarSummary>& values);
  /// For TensorBoard's text page, under the tag "<tag>/text_summary".
  void text(int64_t step, const std::string& tag, std::string_view content);
  /// Tells readers of the folder to forget what older files have at `first_step` and after.
  void session_start(int64_t first_step);

  const std::string& path() const { return file_->path(); }

 private:
  std::unique_ptr<AppendFile> file_;
};

}  // namespace tendril
