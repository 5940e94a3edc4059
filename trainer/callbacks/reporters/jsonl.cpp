#include <tendril/trainer/callbacks/reporters/jsonl.h>

#include <filesystem>
#include <limits>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/log.h>

namespace tendril {
namespace {

// The step of a line; nullopt for what is no row, such as the half line that a kill leaves behind.
std::optional<int64_t> step_of(std::string_view line, const std::string& path) {
  try {
    return Json::parse(line, path).at("step").as_int();
  } catch (const Error&) {
    return std::nullopt;
  }
}

// The lines of rows up to `last_step`, byte by byte as they were.
std::string lines_up_to(int64_t last_step, const std::string& path) {
  const std::string text = text_if_exists(path);
  std::string kept;
  int64_t unreadable = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view line = std::string_view(text).substr(start, end - start);
    start = end + 1;
    const std::optional<int64_t> step = step_of(line, path);
    if (!step)
      ++unreadable;
    else if (*step <= last_step)
      kept.append(line).append(1, '\n');
  }
  if (unreadable > 0)
    log_warning("[jsonl] dropped ", unreadable, " lines of ", path, " that are no log rows");
  return kept;
}

}  // namespace

void JsonlReporter::begin(const CallbackContext& context) {
  file_.reset();
  make_folders(std::filesystem::path(path_).parent_path().string());
  const int64_t step = context.state.global_step;
  std::string kept;
  if (step > 0 && std::filesystem::exists(path_)) {
    kept = lines_up_to(step, path_);
  } else if (step > 0) {
    for (const Json& row : context.state.log_history)
      kept += row_with_step(row.at("step").as_int(), row).dump() + "\n";
  }
  write_text_file(path_, kept);
}

void JsonlReporter::write_row(const CallbackContext&, const Json& row) {
  if (!file_) {
    // A kill may have left half a line, which the new row must not join.
    const std::string text = text_if_exists(path_);
    if (!text.empty() && text.back() != '\n')
      write_text_file(path_, lines_up_to(std::numeric_limits<int64_t>::max(), path_));
    file_ = std::make_unique<AppendFile>(path_);
  }
  file_->write(row.dump() + "\n");
}

}  // namespace tendril
