#include <tendril/trainer/arguments/file.h>

#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/core/file.h>

namespace tendril {
namespace {

// Far more than any arguments need; a file of tensors given by mistake is not parsed.
constexpr uintmax_t kLargestFile = 1 << 20;

bool is_yaml(const std::string& path) { return path.ends_with(".yaml") || path.ends_with(".yml"); }

}  // namespace

bool is_argument_file(const std::string& path) { return path.ends_with(".json") || is_yaml(path); }

std::vector<ArgumentSetting> read_argument_file(const std::string& path) {
  TENDRIL_CHECK(is_argument_file(path), "[arguments] a file of arguments is JSON or YAML; got ",
                path, "; its name must end in .json, .yaml or .yml");
  std::error_code problem;
  const uintmax_t size = std::filesystem::file_size(path, problem);
  TENDRIL_CHECK(!problem, "[arguments] cannot read ", path, ": ", problem.message());
  TENDRIL_CHECK(size <= kLargestFile, "[arguments] ", path, " is no file of arguments: it has ",
                size, " bytes");
  const std::string text = read_text_file(path);
  if (is_yaml(path)) return settings_from_yaml(text, path);
  return settings_from_json(Json::parse(text, path), path);
}

std::vector<ArgumentSetting> settings_from_json(const Json& object, const std::string& origin) {
  TENDRIL_CHECK(object.is_object(), "[arguments] ", origin,
                ": the arguments must be one object, {\"name\": value, ...}");
  std::vector<ArgumentSetting> settings;
  for (const auto& [name, value] : object.members())
    settings.push_back({name, "[arguments] " + origin + ": ", value, std::nullopt});
  return settings;
}

}  // namespace tendril
