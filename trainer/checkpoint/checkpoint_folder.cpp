#include <tendril/trainer/checkpoint/checkpoint_folder.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/trainer/checkpoint/manifest.h>

namespace tendril {
namespace fs = std::filesystem;
namespace {

// "checkpoint-<digits>" and nothing else.
std::optional<int64_t> step_of(std::string_view name) {
  constexpr std::string_view kPrefix = "checkpoint-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  if (name.empty() || name.front() == '-') return std::nullopt;  // from_chars would read a sign
  int64_t step = 0;
  const auto result = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool whole = result.ec == std::errc() && result.ptr == name.data() + name.size();
  return whole ? std::optional(step) : std::nullopt;
}

std::string manifest_fault(const std::string& what) {
  return std::string(detail::kManifestName) + ": " + what;
}

}  // namespace

std::vector<CheckpointPath> list_checkpoints(const fs::path& output_dir) {
  std::vector<CheckpointPath> result;
  std::error_code error;
  for (fs::directory_iterator entry(output_dir, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto step = step_of(entry->path().filename().string());
    std::error_code vanished;  // removed meanwhile, or a dangling link
    if (step && entry->is_directory(vanished)) result.push_back({entry->path(), *step});
  }
  TENDRIL_CHECK(!error || error == std::errc::no_such_file_or_directory,
                "[checkpoint] cannot read folder ", output_dir.string(), ": ", error.message());
  std::sort(result.begin(), result.end(), [](const CheckpointPath& a, const CheckpointPath& b) {
    return a.step != b.step ? a.step < b.step : a.folder < b.folder;  // 7 and 007 are one step
  });
  return result;
}

std::vector<std::string> checkpoint_faults(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) return {"the folder is missing, or is not a folder"};
  const fs::path path = folder / detail::kManifestName;
  if (!fs::exists(path, error) && !error)
    return {
        manifest_fault("missing; Tendril writes one into every checkpoint, and training resumes "
                       "from nothing else. "
                       "The weights of a Hugging Face checkpoint can be loaded into a model with "
                       "from_pretrained")};
  detail::Manifest manifest;
  try {
    manifest = detail::Manifest::parse(read_text_file(path.string()), path.string());
  } catch (const Error& refused) {
    return {manifest_fault(refused.what())};
  }
  std::vector<std::string> faults;
  for (const auto& [name, record] : manifest.files) {
    const std::string fault = detail::is_inside(name) ? detail::file_fault(folder / name, record)
                                                      : "listed, but not inside the folder";
    if (!fault.empty()) faults.push_back(name + ": " + fault);
  }
  return faults;
}

void check_checkpoint(const fs::path& folder) {
  const std::vector<std::string> faults = checkpoint_faults(folder);
  if (faults.empty()) return;
  std::string text;
  for (const std::string& fault : faults) text += (text.empty() ? "" : "; ") + fault;
  fail("[checkpoint] ", folder.string(), " is not a whole checkpoint: ", text);
}

std::optional<fs::path> find_valid_checkpoint(const fs::path& output_dir,
                                              const OnRefused& on_refused) {
  std::vector<CheckpointPath> newest_first = list_checkpoints(output_dir);
  std::reverse(newest_first.begin(), newest_first.end());
  for (const CheckpointPath& checkpoint : newest_first) {
    const std::vector<std::string> faults = checkpoint_faults(checkpoint.folder);
    if (faults.empty()) return checkpoint.folder;
    if (on_refused) on_refused(checkpoint.folder, faults);
  }
  return std::nullopt;
}

}  // namespace tendril
